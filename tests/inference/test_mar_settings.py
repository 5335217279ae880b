"""Settings that would count for nothing are refused, and the card names those that count."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from inference.errors import SettingsInvalid
from inference.mar_settings import METHODS, PRIORS, Settings, read_mar_settings
from inference.training.mar_objectives import OBJECTIVES


def test_the_networks_prior_with_a_threshold_is_the_default() -> None:
    chosen = read_mar_settings({})
    assert (chosen.method, chosen.metal_mask, chosen.metal_threshold_hu) == ("prior_net", "threshold", 0.0)
    assert chosen.prior == "supervised"
    assert read_mar_settings({"method": "dual_domain_diffusion"}).steps == 20


@pytest.mark.parametrize(
    ("given", "key", "words"),
    [
        ({"method": "nmar", "prior": "pix2pix"}, "prior", "only with method = \"prior_net\"; here method is 'nmar'"),
        ({"method": "dual_domain_diffusion", "prior": "supervised"}, "prior", "prior_net"),
        ({"method": "prior_net", "steps": 30}, "steps", "dual_domain_diffusion"),
        ({"metal_mask": "network", "metal_threshold_hu": 2500}, "metal_threshold_hu", 'metal_mask = "threshold"'),
    ],
)
def test_a_setting_that_would_count_for_nothing_is_refused(given: dict[str, Any], key: str, words: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        read_mar_settings(given)
    assert caught.value.key == key and words in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"method": "best"},
        {"method": 3},
        {"methods": "nmar"},
        {"metal_threshold_hu": "3000"},
        {"metal_threshold_hu": 200},
        {"metal_threshold_hu": True},
        {"metal_mask": "eye"},
        {"weights_folder": "weights"},
        {"weights_folder": "/no/such/folder"},
        {"weights_folder": "/null\0"},
        {"weights_folder": "/" + "long" * 100},
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(given: dict[str, Any]) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        read_mar_settings(given)
    assert caught.value.key == next(iter(given))


@pytest.mark.parametrize("steps", [19, 51, 20.0])
def test_the_diffusion_takes_twenty_to_fifty_whole_steps(steps: float) -> None:
    with pytest.raises(SettingsInvalid, match="whole number from 20 to 50"):
        read_mar_settings({"method": "dual_domain_diffusion", "steps": steps})
    assert read_mar_settings({"method": "dual_domain_diffusion", "steps": 50}).steps == 50


def test_only_settings_that_shape_the_result_are_in_force(tmp_path: Path) -> None:
    classical = read_mar_settings({"method": "nmar"}).in_force()
    assert classical == {"method": "nmar", "metal_mask": "threshold", "metal_threshold_hu": 0.0}
    given = {"method": "prior_net", "prior": "pix2pix", "metal_mask": "network"}
    assert read_mar_settings(given | {"weights_folder": str(tmp_path)}).in_force() == given
    diffusion = read_mar_settings({"method": "dual_domain_diffusion", "steps": 25}).in_force()
    assert diffusion["steps"] == 25 and "prior" not in diffusion


def test_every_objective_of_the_training_can_be_chosen() -> None:
    assert set(PRIORS) == set(OBJECTIVES)


def test_every_choice_has_a_purpose_of_its_own_in_plain_letters() -> None:
    choices = [Settings(method=method) for method in METHODS]
    choices += [Settings(method="prior_net", prior=prior) for prior in PRIORS[1:]]
    choices += [Settings(metal_mask="network")]
    purposes = {chosen.purpose for chosen in choices}
    assert len(purposes) == len(choices)
    assert all(words.isascii() and words.startswith("Metal artifacts reduced by ") for words in purposes)


def test_the_config_reference_has_every_setting_with_its_default_and_its_choices() -> None:
    reference = Path(__file__).parents[2].joinpath("docs", "CONFIG.md").read_text(encoding="utf-8")
    for one in fields(Settings):
        (row,) = (line for line in reference.splitlines() if line.startswith(f"| `{one.name}` |"))
        assert f"| `{json.dumps(one.default)}` |" in row
        assert all(f"`{word}`" in row for word in one.metadata.get("words", ()))
