"""Thin flax.linen networks that run on any hardware.

Each takes `(x, *, train=False, key=None)`; `key` is the read key, and every
layer draws from the stream of its path.
"""

from jaxedge.models import checkpoints as checkpoints
from jaxedge.models import encoder as encoder
from jaxedge.models import hugging_face as hugging_face
from jaxedge.models import language as language
from jaxedge.models import llama2c as llama2c
from jaxedge.models import minilm as minilm
from jaxedge.models import packed as packed
from jaxedge.models import quantized as quantized
from jaxedge.models import resnet as resnet
from jaxedge.models import similarity as similarity
from jaxedge.models import transformer as transformer
from jaxedge.models.cnn import Cnn as Cnn
from jaxedge.models.crnn import Crnn as Crnn
from jaxedge.models.layers import Conv as Conv
from jaxedge.models.layers import Dense as Dense
from jaxedge.models.mlp import Mlp as Mlp
from jaxedge.models.pointset import PointClassifier as PointClassifier
from jaxedge.models.pointset import PointSegmenter as PointSegmenter
from jaxedge.models.resnet import ResNet as ResNet
from jaxedge.models.resnet_large import LargeResNet as LargeResNet
from jaxedge.models.unet import Unet as Unet

__all__ = [
    "Cnn",
    "Conv",
    "Crnn",
    "Dense",
    "LargeResNet",
    "Mlp",
    "PointClassifier",
    "PointSegmenter",
    "ResNet",
    "Unet",
    "checkpoints",
    "encoder",
    "hugging_face",
    "language",
    "llama2c",
    "minilm",
    "quantized",
    "resnet",
    "packed",
    "similarity",
    "transformer",
]
