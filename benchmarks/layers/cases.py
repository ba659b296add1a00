"""One case a layer type: settings, shapes, and the arithmetic that it needs."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["CASES", "Case", "find"]

Shape = tuple[int, ...]
IMAGES: Shape = (32, 64, 56, 56)  # 25.7 MB, beyond the caches
CONV_GFLOPS = 2 * 16 * 256 * 256 * 9 * 14 * 14 / 1e9


@dataclass(frozen=True)
class Case:
    """What is measured of one type.

    Attributes:
        name: unique; the layer type, and a word if there are several cases.
        type: layer type.
        text: body of the layer's prototxt.
        bottoms: their shapes.
        labels: bottom -> number of classes, for bottoms of integers.
        ones: bottoms that hold ones (``cont``), or 0/1 selections.
        num_top: 0 is the type's least.
        gflops: multiplications and additions of a forward, in 10^9; backward is
            taken to need twice as many.
        backward: whether a gradient is measured.
        positive: inputs are above 0.
    """

    name: str
    text: str = ""
    bottoms: tuple[Shape, ...] = (IMAGES,)
    labels: dict[int, int] = field(default_factory=dict)
    ones: tuple[int, ...] = ()
    num_top: int = 0
    gflops: float = 0.0
    backward: bool = True
    positive: bool = False

    @property
    def type(self) -> str:
        """The layer type: the name's first word."""
        return self.name.split()[0]


def _conv(text: str = "") -> str:
    return (
        "convolution_param { num_output: 256 kernel_size: 3 pad: 1 "
        f'weight_filler {{ type: "xavier" }} {text} }}'
    )


def _recurrent(size: int) -> str:
    return (
        f'recurrent_param {{ num_output: {size} weight_filler {{ type: "uniform" '
        "min: -0.08 max: 0.08 } }"
    )


SEQUENCE: tuple[Shape, ...] = ((20, 64, 256), (20, 64))
CLASSES: Shape = (256, 1000)

# Batches of 64 crops of 227 from images of 256; rows of 1024.
_CROP = "transform_param { crop_size: 227 mirror: true mean_value: 104 }"
_SOURCES: tuple[Case, ...] = (
    Case("Data", f'{_CROP} data_param {{ source: "@LMDB" backend: LMDB '
         "batch_size: 64 }", (), num_top=2, backward=False),
    Case("HDF5Data", 'hdf5_data_param { source: "@HDF5" batch_size: 256 }', (),
         num_top=2, backward=False),
    Case("HDF5Output", 'hdf5_output_param { file_name: "@OUT" }',
         ((256, 1024), (256,)), labels={1: 10}, backward=False),
    Case("ImageData", f'{_CROP} image_data_param {{ source: "@LIST" batch_size: 64 }}',
         (), num_top=2, backward=False),
    Case("MemoryData", "memory_data_param { batch_size: 64 channels: 3 height: 227 "
         "width: 227 }", (), num_top=2, backward=False),
    Case("Python", 'python_param { module: "poseidon_caffe.caffe.example_layer" layer: '
         '"ScaleLayer" param_str: "2" }', num_top=1),
    Case("WindowData", f'{_CROP} window_data_param {{ source: "@WINDOWS" '
         "batch_size: 64 }", (), num_top=2, backward=False),
)  # fmt: skip

CASES: tuple[Case, ...] = (
    Case("AbsVal"),
    Case("Accuracy", "accuracy_param { top_k: 5 }", (CLASSES, (256,)), {1: 1000},
         backward=False),
    Case("ArgMax", "argmax_param { axis: 1 }", (CLASSES,), backward=False),
    Case("BNLL"),
    Case("BatchNorm"),
    Case("BatchReindex", bottoms=((256, 64, 28, 28), (256,)), labels={1: 256}),
    Case("Bias"),
    Case("Clip", "clip_param { min: -1 max: 1 }"),
    Case("Concat", bottoms=((32, 64, 28, 28), (32, 128, 28, 28), (32, 32, 28, 28))),
    Case("ContrastiveLoss", bottoms=((4096, 1024), (4096, 1024), (4096,)),
         labels={2: 2}),
    Case("Convolution", _conv(), ((16, 256, 14, 14),), gflops=CONV_GFLOPS),
    Case("Convolution depthwise", 'convolution_param { num_output: 128 group: 128 '
         'kernel_size: 3 pad: 1 weight_filler { type: "xavier" } }',
         ((32, 128, 28, 28),)),
    Case("Crop", "crop_param { axis: 2 offset: 4 }", ((32, 64, 64, 64), IMAGES)),
    Case("Deconvolution", 'convolution_param { num_output: 64 kernel_size: 4 '
         'stride: 2 pad: 1 weight_filler { type: "xavier" } }', ((8, 64, 28, 28),),
         gflops=2 * 8 * 64 * 64 * 16 * 28 * 28 / 1e9),
    Case("Deconvolution upsample", 'convolution_param { num_output: 64 group: 64 '
         'kernel_size: 4 stride: 2 pad: 1 bias_term: false weight_filler { type: '
         '"bilinear" } }', ((16, 64, 28, 28),)),
    Case("Dropout", "dropout_param { dropout_ratio: 0.5 }"),
    Case("DummyData", "dummy_data_param { shape { dim: 32 dim: 64 dim: 56 dim: 56 } "
         'data_filler { type: "gaussian" } }', (), backward=False),
    Case("ELU"),
    Case("Eltwise", bottoms=(IMAGES, IMAGES)),
    Case("Eltwise max", "eltwise_param { operation: MAX }", (IMAGES, IMAGES)),
    Case("Eltwise product", "eltwise_param { operation: PROD }", (IMAGES, IMAGES)),
    Case("Embed", "embed_param { input_dim: 10000 num_output: 512 weight_filler { "
         'type: "uniform" } }', ((64, 80),), {0: 10000}),
    Case("EuclideanLoss", bottoms=(IMAGES, IMAGES)),
    Case("Exp"),
    Case("Filter", bottoms=((256, 64, 28, 28), (256,)), labels={1: 2}),
    Case("Flatten"),
    Case("HingeLoss", bottoms=((4096, 1000), (4096,)), labels={1: 1000}),
    Case("Im2col", "convolution_param { kernel_size: 3 pad: 1 }", ((8, 64, 56, 56),)),
    Case("InfogainLoss", bottoms=((4096, 100), (4096,), (1, 1, 100, 100)),
         labels={1: 100}),
    Case("InnerProduct", 'inner_product_param { num_output: 4096 weight_filler { '
         'type: "xavier" } }', ((64, 4096),), gflops=2 * 64 * 4096**2 / 1e9),
    Case("Input", "input_param { shape { dim: 32 dim: 64 dim: 56 dim: 56 } }", (),
         backward=False),
    Case("LRN", "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }"),
    Case("LRN within", "lrn_param { local_size: 3 norm_region: WITHIN_CHANNEL }"),
    Case("LSTM", _recurrent(256), SEQUENCE, ones=(1,),
         gflops=2 * 20 * 64 * 512 * 1024 / 1e9),
    Case("LSTMUnit", bottoms=((1, 4096, 256), (1, 4096, 1024), (1, 4096)), ones=(2,)),
    Case("Log", positive=True),
    Case("MVN"),
    Case("MultinomialLogisticLoss", bottoms=((4096, 1000), (4096,)),
         labels={1: 1000}, positive=True),
    Case("PReLU"),
    Case("Parameter", "parameter_param { shape { dim: 1000 dim: 4096 } }", ()),
    Case("Pooling max", "pooling_param { kernel_size: 3 stride: 2 }"),
    Case("Pooling ave", "pooling_param { pool: AVE kernel_size: 3 stride: 2 }"),
    Case("Pooling stochastic", "pooling_param { pool: STOCHASTIC kernel_size: 2 "
         "stride: 2 }", positive=True),
    Case("Power", "power_param { power: 2 scale: 0.5 shift: 1 }"),
    Case("RNN", _recurrent(256).replace("}", "}", 1), SEQUENCE, ones=(1,),
         gflops=2 * 20 * 64 * 256 * 768 / 1e9),
    Case("ReLU"),
    Case("Reduction", "reduction_param { axis: 1 operation: SUMSQ }"),
    Case("Reshape", "reshape_param { shape { dim: 0 dim: -1 } }"),
    Case("SPP", "spp_param { pyramid_height: 3 }", ((16, 256, 14, 14),)),
    Case("Scale", "scale_param { bias_term: true }"),
    Case("Sigmoid"),
    Case("SigmoidCrossEntropyLoss", bottoms=((4096, 1000), (4096, 1000)),
         labels={1: 2}),
    Case("Silence", backward=True),
    Case("Slice", bottoms=((32, 128, 28, 28),), num_top=2),
    Case("Softmax", bottoms=(CLASSES,)),
    Case("Softmax pixels", bottoms=((4, 21, 500, 500),)),
    Case("SoftmaxWithLoss", bottoms=(CLASSES, (256,)), labels={1: 1000}),
    Case("SoftmaxWithLoss pixels", bottoms=((4, 21, 500, 500), (4, 1, 500, 500)),
         labels={1: 21}),
    Case("Split", num_top=2),
    Case("Swish"),
    Case("TanH"),
    Case("Threshold", backward=False),
    *_SOURCES,
    Case("Tile", "tile_param { axis: 1 tiles: 4 }", ((32, 64, 28, 28),)),
)  # fmt: skip


def find(name: str) -> Case:
    """The case of that name."""
    return next(case for case in CASES if case.name == name)
