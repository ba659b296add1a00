"""Defaults that hold everywhere."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from poseidon_caffe.comm.settings import SORT_POLICIES, SVB_MODES, ClusterSettings


def test_defaults_are_exact_training():
    settings = ClusterSettings()
    assert settings.staleness == settings.servers == settings.bandwidth_mbps == 0
    assert settings.svb == SVB_MODES[0] == "auto"
    assert settings.update_sort_policy == SORT_POLICIES[0] == "FixedOrder"
    assert settings.stall_warning_s < settings.comm_timeout_s
    assert settings.overlap


def test_settings_do_not_change_under_way():
    with pytest.raises(FrozenInstanceError):
        ClusterSettings().servers = 3
