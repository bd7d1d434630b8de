"""The torch modules. Apart from the components, so that listing plugins does not import torch."""
