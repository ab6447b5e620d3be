"""Thin flax.linen networks that run on any hardware.

Each takes `(x, *, train=False, key=None)`; `key` is the read key, and every
layer draws from the stream of its path.
"""

from jaxedge.models import arrays as arrays
from jaxedge.models import checkpoints as checkpoints
from jaxedge.models import efficientnet as efficientnet
from jaxedge.models import encoder as encoder
from jaxedge.models import gan as gan
from jaxedge.models import hugging_face as hugging_face
from jaxedge.models import language as language
from jaxedge.models import learned_step as learned_step
from jaxedge.models import llama2c as llama2c
from jaxedge.models import minilm as minilm
from jaxedge.models import mobilenet as mobilenet
from jaxedge.models import packed as packed
from jaxedge.models import pooling as pooling
from jaxedge.models import quantized as quantized
from jaxedge.models import radiomics_net as radiomics_net
from jaxedge.models import resnet as resnet
from jaxedge.models import similarity as similarity
from jaxedge.models import sret as sret
from jaxedge.models import swin as swin
from jaxedge.models import transformer as transformer
from jaxedge.models import transposed as transposed
from jaxedge.models import unet2d as unet2d
from jaxedge.models import vit as vit
from jaxedge.models import volume_layers as volume_layers
from jaxedge.models.cnn import Cnn as Cnn
from jaxedge.models.crnn import Crnn as Crnn
from jaxedge.models.efficientnet import EfficientNet as EfficientNet
from jaxedge.models.gan import PlainGan as PlainGan
from jaxedge.models.gan import SequentialGan as SequentialGan
from jaxedge.models.layers import Conv as Conv
from jaxedge.models.layers import Dense as Dense
from jaxedge.models.learned_step import LearnedStep as LearnedStep
from jaxedge.models.mlp import Mlp as Mlp
from jaxedge.models.mobilenet import MobileNetV2 as MobileNetV2
from jaxedge.models.pointset import PointClassifier as PointClassifier
from jaxedge.models.pointset import PointSegmenter as PointSegmenter
from jaxedge.models.radiomics_net import RadiomicsNet as RadiomicsNet
from jaxedge.models.resnet import ResNet as ResNet
from jaxedge.models.resnet_large import LargeResNet as LargeResNet
from jaxedge.models.transposed import ConvTranspose as ConvTranspose
from jaxedge.models.unet import Unet as Unet
from jaxedge.models.unet2d import Unet2D as Unet2D
from jaxedge.models.vit import Vit as Vit

__all__ = [
    "Cnn",
    "Conv",
    "ConvTranspose",
    "Crnn",
    "Dense",
    "EfficientNet",
    "LargeResNet",
    "LearnedStep",
    "Mlp",
    "MobileNetV2",
    "PlainGan",
    "PointClassifier",
    "PointSegmenter",
    "RadiomicsNet",
    "ResNet",
    "SequentialGan",
    "Unet",
    "Unet2D",
    "Vit",
    "arrays",
    "checkpoints",
    "efficientnet",
    "encoder",
    "gan",
    "hugging_face",
    "language",
    "learned_step",
    "llama2c",
    "minilm",
    "mobilenet",
    "packed",
    "pooling",
    "quantized",
    "radiomics_net",
    "resnet",
    "similarity",
    "sret",
    "swin",
    "transformer",
    "transposed",
    "unet2d",
    "vit",
    "volume_layers",
]
