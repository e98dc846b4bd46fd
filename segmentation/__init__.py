"""Does an LSTM over the feature map help semantic segmentation? Fair ablations with PyTorch Lightning."""
