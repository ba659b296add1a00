"""Source tags of Caffe 1.0's log lines: parsers and eyes know them.

The numbers are those of tests/golden/train/lenet_reference.log, or of the same
sources where that run did not pass by.
"""

from __future__ import annotations

from typing import Final

# caffe.cpp
USE_CPU: Final = "caffe.cpp:197"
USING_GPUS: Final = "caffe.cpp:204"
GPU_NAME: Final = "caffe.cpp:209"
TEST_GPU: Final = "caffe.cpp:271"
TIME_GPU: Final = "caffe.cpp:371"
FINETUNE: Final = "caffe.cpp:155"
RESUME: Final = "caffe.cpp:232"
START: Final = "caffe.cpp:239"
DONE: Final = "caffe.cpp:250"
TEST_RUNS: Final = "caffe.cpp:286"
TEST_BATCH: Final = "caffe.cpp:313"
TEST_LOSS_MEAN: Final = "caffe.cpp:318"
TEST_MEAN: Final = "caffe.cpp:330"
TIME: Final = "caffe.cpp:397"
DEVICE: Final = "caffe.cpp:138"
# solver.cpp
INITIALIZING: Final = "solver.cpp:45"
SCAFFOLDED: Final = "solver.cpp:57"
TRAIN_NET: Final = "solver.cpp:102"
TEST_NET: Final = "solver.cpp:190"
DISPLAY: Final = "solver.cpp:239"
TRAIN_OUTPUT: Final = "solver.cpp:258"
SOLVING: Final = "solver.cpp:289"
LR_POLICY: Final = "solver.cpp:290"
STOPPED_EARLY: Final = "solver.cpp:309"
LAST_LOSS: Final = "solver.cpp:327"
SOLVED: Final = "solver.cpp:332"
TESTING: Final = "solver.cpp:347"
TEST_LOSS: Final = "solver.cpp:396"
TEST_INTERRUPTED: Final = "solver.cpp:390"
TEST_OUTPUT: Final = "solver.cpp:414"
SNAPSHOT_NET: Final = "solver.cpp:464"
# sgd_solver.cpp
MULTISTEP: Final = "sgd_solver.cpp:50"
RATE: Final = "sgd_solver.cpp:112"
CLIPPING: Final = "sgd_solver.cpp:122"
SNAPSHOT_STATE: Final = "sgd_solver.cpp:284"
RESTORING: Final = "sgd_solver.cpp:318"
# net.cpp and what it builds
CREATING: Final = "layer_factory.hpp:77"
NET_PARAMETERS: Final = "net.cpp:53"
NET_LAYER: Final = "net.cpp:86"
SETTING_UP: Final = "net.cpp:124"
TOP_SHAPE: Final = "net.cpp:131"
LOSS_WEIGHT: Final = "net.cpp:134"
MEMORY: Final = "net.cpp:139"
NEEDS_BACKWARD: Final = "net.cpp:200"
NO_BACKWARD: Final = "net.cpp:202"
NET_OUTPUT: Final = "net.cpp:244"
NET_DONE: Final = "net.cpp:257"
TOP_IN_PLACE: Final = "net.cpp:369"
TOP: Final = "net.cpp:382"
BOTTOM: Final = "net.cpp:408"
IGNORED_LAYER: Final = "net.cpp:744"
DEBUG_INFO: Final = "net.cpp:566"
# common.cpp
DEVICE_ID: Final = "common.cpp:178"
# data_layer.cpp
DATA_RESTART: Final = "data_layer.cpp:73"
# Ours
POSEIDON: Final = "poseidon:1"
