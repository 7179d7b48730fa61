import pytest
import torch
from safetensors import SafetensorError, safe_open

from bigel.errors import WorkspaceError
from bigel.graph import load_graphs, save_graphs
from bigel.store.tensors import save_tensors
from tests.worlds import graphs_of, random_world


def test_store_round_trip(tmp_path):
    graphs = graphs_of(random_world(0))
    path = tmp_path / "graphs.safetensors"
    save_graphs(graphs, path)
    loaded = load_graphs(path)
    assert loaded.behaviors == graphs.behaviors
    assert (loaded.n_users, loaded.n_items) == (graphs.n_users, graphs.n_items)
    for (name, graph), (loaded_name, copy) in zip(graphs.named(), loaded.named(), strict=True):
        assert name == loaded_name
        assert torch.equal(graph.crow, copy.crow)
        assert torch.equal(graph.col, copy.col)
        assert torch.equal(graph.value, copy.value)
    with safe_open(path, framework="pt") as file:
        assert "2.crow" in file.keys() and "union.value" in file.keys()  # noqa: SIM118
        assert file.metadata() == {"users": "7", "items": "9", "behaviors": '["b0", "b1", "b2"]'}


@pytest.mark.parametrize("content", [None, b"", b"not a safetensors file"])
def test_a_damaged_store_is_an_error_that_names_the_file(tmp_path, content):
    path = tmp_path / "graphs.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WorkspaceError, match=r"graphs\.safetensors.*delete its folder"):
        load_graphs(path)


def test_a_cut_store_is_an_error(tmp_path):
    path = tmp_path / "graphs.safetensors"
    save_graphs(graphs_of(random_world(0)), path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(WorkspaceError):
        load_graphs(path)


def test_files_have_the_usual_permissions(tmp_path):
    (tmp_path / "usual").touch()
    save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(2)})
    usual = (tmp_path / "usual").stat().st_mode
    assert (tmp_path / "x.safetensors").stat().st_mode == usual


@pytest.mark.parametrize("kind", ["python", "safetensors"])
def test_a_failed_write_is_an_os_error_and_leaves_the_old_file(tmp_path, monkeypatch, kind):
    place = tmp_path / "x.safetensors"
    save_tensors(place, {"a": torch.zeros(2)})
    before = place.read_bytes()

    def fail(tensors, path, metadata):
        path.write_bytes(b"half")
        raise SafetensorError("disk full") if kind == "safetensors" else OSError("disk full")

    monkeypatch.setattr("bigel.store.tensors.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_tensors(place, {"a": torch.ones(2)})
    assert place.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]
