from pathlib import Path

import pytest

from bigel.config import PRESETS, Config, load_config
from bigel.config.write import documented_toml, short_toml
from bigel.errors import ConfigError


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_resolve(preset: str) -> None:
    config = load_config(preset)
    assert config.data.target == config.data.behaviors[-1]
    assert len(config.model.layers_of(len(config.data.behaviors))) == len(config.data.behaviors)


def test_override_wins_over_the_file_and_keeps_its_neighbours(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[model]\ndim = 16\ntemperature = 0.3\n[data]\npath = "a.csv"\n')
    config = load_config(str(file), ["model.dim=32", "data.rename.pv=click"])
    assert (config.model.dim, config.model.temperature) == (32, (0.3,))
    assert config.data.rename == {"pv": "click"}


@pytest.mark.parametrize("key", ["model.layers", "model.temperature", "train.behavior_weights"])
def test_one_value_serves_all_behaviors(key: str) -> None:
    section, name = key.split(".")
    assert getattr(getattr(load_config("", [f"{key}=2"]), section), name) == (2,)
    with pytest.raises(ConfigError, match="true and false stand only where a switch"):
        load_config("", [f"{key}=true"])


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.dims=3", "did you mean 'dim'"),
        ("modle.dim=3", "did you mean 'model'"),
        ("model.dim=0", "greater than or equal to 1"),
        ("model.dim=many", "valid integer"),
        ("split.method=tme", "did you mean 'time'"),
        ("model.layers=[1,2]", "one for each behavior"),
        ("model.layers=[-1]", "greater than or equal to 0"),
        ("model.temperature=[0.1,0.2]", "model.temperature has 2 values for 3 behaviors"),
        ("model.temperature=0", "greater than 0"),
        ("model.temperature=inf", "finite number"),
        ("model.own_view_temperature=[0.1,0.2]", "own_view_temperature has 2 values for 3"),
        ("model.own_view_weight=[1,2]", "own_view_weight has 2 values for 3"),
        ("model.own_view_weight=-1", "greater than or equal to 0"),
        ("model.order=[0,1,1]", "does not hold each of 0…2 once"),
        ('data.behaviors=["a","b","c","d","e","f","g","h","i"]', "set model.memory = false"),
        ("model.temperature=[]", "at least 1"),
        ("train.behavior_weights=[1,2]", "one for each"),
        ('data.behaviors=["a","a"]', "names one twice"),
        ("data.columns.usr=x", "did you mean 'user'"),
        ("data.rename.pv=clik", "is not in behaviors"),
        ('data.behavior_by_file={"a*"="clik"}', "behavior_by_file.a* = 'clik' is neither in"),
        ("data.time_format=%Y-%m-%d %Q", "holds %Q; known are %Y %y"),
        ("data.time_format=%Y%m", "names no day"),
        ("data.time_format=%Y%m%d%H", "hour and minute, or neither"),
        ("data.time_format=%Y%m%d%S", "hour and minute, or neither"),
        ("data.time_format=%m%d", "need each other"),
        ("data.time_year=2020", "need each other"),
        ('contracts.funnel=[["clik","purchase"]]', "did you mean 'click'"),
        ("evaluate.select_cutoff=7", "is not in evaluate.cutoffs"),
        ("synth.dirt.nul_user=0.1", "did you mean 'null_user'"),
        ("synth.dirt.null_user=1", "less than 1"),
        ("synth.dirt=0.5", "synth.dirt = 0.5: it is a section: write for example synth.dirt.dup"),
        ("rivals.bpr_mf=1", "write for example rivals.bpr_mf."),
        ("synth.conversion=[0.2,0]", "greater than 0"),
        ("train.learning_rate=nan", "finite number"),
        ("train.seed=true", "true and false stand only where a switch"),
        ("model.layers=[true]", "true and false stand only where a switch"),
        ("model", "write section.key=value"),
        ("dim=3", "write section.key=value"),
        ("model.dim.x=3", "model.dim"),
    ],
)
def test_wrong_settings_are_refused_with_the_nearest_name(override: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("", [override])
    assert expected in str(caught.value)
    assert caught.value.exit_code == 2


def test_an_own_view_that_no_loss_trains_is_refused() -> None:
    untrained = ["model.own_view=true", "train.behavior_weights=[1,0,1]"]
    with pytest.raises(ConfigError, match=r"0 for 'favourite', .* set model\.own_view_weight to 0"):
        load_config("", untrained)
    assert load_config("", [*untrained, "model.own_view_weight=[1,0,1]"]).model.own_view
    with pytest.raises(ConfigError, match=r"behavior_weights is 0 for every behavior"):
        load_config("", ["train.behavior_weights=0"])


def test_an_own_view_without_any_weight_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"0 for every behavior; set model\.own_view = false"):
        load_config("", ["model.own_view=true", "model.own_view_weight=[0,0,0]"])
    assert load_config("", ["model.own_view_weight=0"]).model.own_view_weight == (0.0,)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("dmeo", None, "did you mean 'demo'"),
        ("absent.toml", None, "no such file"),
        ("broken.toml", "[data\n", "cannot be read as TOML"),
        ("odd.toml", "[data]\npath = 3\n", "data.path"),
    ],
)
def test_unreadable_sources_are_refused(
    tmp_path: Path, name: str, text: str | None, expected: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    source = str(tmp_path / name) if name.endswith(".toml") else name
    with pytest.raises(ConfigError, match=expected):
        load_config(source)


@pytest.mark.parametrize("preset", ["", *PRESETS])
def test_printed_configuration_reads_back_equal(tmp_path: Path, preset: str) -> None:
    config = load_config(preset, ['data.rename.p"v="click"'] if preset == "" else [])
    file = tmp_path / "printed.toml"
    file.write_text(documented_toml(config), "utf-8")
    assert load_config(str(file)) == config


@pytest.mark.parametrize("preset", ["", *PRESETS])
def test_the_short_form_reads_back_equal_and_holds_no_default(tmp_path: Path, preset: str) -> None:
    target = load_config(preset).data.target
    config = load_config(preset, ["rivals.mule.dim=9", f'data.rename.p"v={target}'])
    file = tmp_path / "short.toml"
    file.write_text(short_toml(config), "utf-8")
    assert load_config(str(file)) == config
    assert "[contracts]" not in short_toml(config) and "[rivals.bpr_mf]" not in short_toml(config)


@pytest.mark.parametrize(
    "override", ["rivals.ease_per_behavior.penalty=9", "rivals.lightgcn_per_behavior.layers=3"]
)
def test_a_section_keeps_its_own_defaults_when_one_field_is_set(
    tmp_path: Path, override: str
) -> None:
    config = load_config("", [override])
    section = getattr(config.rivals, override.split(".")[1])
    assert not section.union
    file = tmp_path / "short.toml"
    file.write_text(short_toml(config), "utf-8")
    assert load_config(str(file)) == config


def test_every_field_is_documented() -> None:
    for name, section in Config.model_fields.items():
        assert section.annotation is not None
        for key, field in section.annotation.model_fields.items():
            assert field.description, f"{name}.{key} has no description"


@pytest.mark.parametrize(
    ("source", "overrides", "path"),
    [
        ("", [], ""),
        ("", ["data.behaviors=['a']"], ""),
        ("", ["synth.users=50"], "synth:"),
        ("", ["synth.users=50", "data.path="], ""),
        ("", ["synth.users=50", "data.path=log"], "log"),
        ("", ["synth.users=50", "data.sql=SELECT 1"], ""),
        ("", ["data.path=synth:"], "synth:"),
        ("demo", [], "synth:"),
        ("demo", ["data.path="], ""),
        ("demo", ["data.path=log"], "log"),
    ],
)
def test_only_its_name_asks_for_the_synthetic_log(
    source: str, overrides: list[str], path: str
) -> None:
    data = load_config(source, overrides).data
    assert (data.path, data.is_synthetic) == (path, path == "synth:")


@pytest.mark.parametrize("source", ["", *PRESETS])
def test_a_printed_configuration_asks_for_the_same_log(source: str, tmp_path: Path) -> None:
    printed = tmp_path / "printed.toml"
    printed.write_text(documented_toml(load_config(source)))
    assert load_config(str(printed)) == load_config(source)
