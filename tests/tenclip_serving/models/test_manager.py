"""Models that come, change, fail and go while the engine answers. Real bundles, real runtimes."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import shutil
import threading
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import BundleError, InvalidRequest, ModelError, ModelNotFound, TenclipError, VersionNotFound
from tenclip_serving.config import ServerConfig
from tenclip_serving.engine import Engine
from tenclip_serving.models.directory import Key
from tenclip_serving.models.manager import Changes, ModelManager, bundle_loader, scan, with_failure, with_model, without
from tenclip_serving.models.repository import (
    FailedBundle,
    Repository,
    ServedModel,
    fingerprint,
    load_bundle,
    load_repository,
)
from tenclip_serving.requests import ClipRequest, RecognitionRequest
from tests.tenclip_serving.helpers import denied, make_bundle, make_video, stopped_by_permissions

Scenario = Callable[[ModelManager, Engine], Awaitable[None]]


def managed(root: Path, scenario: Scenario, **settings: Any) -> None:
    """Run the scenario on a manager of `root` with ONNX Runtime, which loads fastest."""
    load = settings.pop("load", None)
    config = ServerConfig(directory=root, runtime="onnxruntime", threads=1, decode_workers=1, **settings)

    async def run() -> None:
        engine = Engine(config, load_repository(root, runtime="onnxruntime", threads=1, name=config.name))
        manager = ModelManager(engine, load=load(config) if load else None)
        manager.start()
        try:
            await scenario(manager, engine)
        finally:
            await manager.close()
            await engine.close()

    asyncio.run(run())


def served(engine: Engine) -> list[str]:
    return [f"{m.name}/{m.version}" for m in engine.repository]


def sample(engine: Engine, metric: str, /, **labels: str) -> float | None:
    return engine.metrics.registry.get_sample_value(metric, labels)


def rewrite(path: Path, **changes: Any) -> None:
    """The bundle again, in the way in which export replaces one: whole, by a rename."""
    info = json.loads((path / "bundle.json").read_text())
    stage = path.with_name(".new")
    shutil.copytree(path, stage)
    (stage / "bundle.json").write_text(json.dumps(info | changes))
    old = path.with_name(".old")
    path.rename(old)
    stage.rename(path)
    shutil.rmtree(old)


# -- load, unload, default --------------------------------------------------------------------------------------------


def test_load_what_came_later_and_unload_it(tmp_path: Path) -> None:
    make_bundle(tmp_path, "tiny", "1")

    async def scenario(manager: ModelManager, engine: Engine) -> None:
        make_bundle(tmp_path, "tiny", "2")
        make_bundle(tmp_path, "other", "7")
        assert await manager.load("tiny") == Changes(loaded=(("tiny", "2"), ("tiny", "1")))
        assert await manager.load("other", "7") == Changes(loaded=(("other", "7"),))
        assert served(engine) == ["other/7", "tiny/2", "tiny/1"]
        assert engine.repository.get("tiny").version == "2"
        assert sample(engine, "tenclip_model_load_seconds_count", model="tiny") == 3
        assert await manager.unload("tiny", "2") == Changes(unloaded=(("tiny", "2"),))
        assert engine.repository.get("tiny").version == "1"
        await manager.unload("tiny")
        assert served(engine) == ["other/7"]
        with pytest.raises(ModelNotFound, match="no model 'tiny'; this server holds other"):
            engine.repository.get("tiny")
        labels = {"version": "2", "architecture": "tiny-linear", "runtime": "onnxruntime"}
        assert sample(engine, "tenclip_model_info", name="tiny", **labels) is None
        labels["version"] = "7"
        assert sample(engine, "tenclip_model_info", name="other", **labels) == 1

    managed(tmp_path, scenario)


def test_unloaded_by_hand_stays_so_until_loaded_by_hand(tmp_path: Path) -> None:
    make_bundle(tmp_path, "tiny", "1")
    make_bundle(tmp_path, "tiny", "2")

    async def scenario(manager: ModelManager, engine: Engine) -> None:
        await manager.unload("tiny", "2")
        rewrite(tmp_path / "tiny" / "2", family="again")
        assert await manager.reload() == Changes()
        assert served(engine) == ["tiny/1"]
        await manager.load("tiny", "2")
        assert served(engine) == ["tiny/2", "tiny/1"]
        assert not engine.repository.unloaded

    managed(tmp_path, scenario)


@pytest.mark.parametrize(
    ("order", "error", "says"),
    [
        (lambda m: m.load("huge"), ModelNotFound, "no bundle 'huge' below .*; there is tiny"),
        (lambda m: m.load("tiny", "9"), VersionNotFound, "has no version '9'; it has 1"),
        (lambda m: m.load("../tiny", "1"), ModelNotFound, "no bundle"),
        (lambda m: m.load(""), ModelNotFound, "no bundle ''"),
        (lambda m: m.unload("huge"), ModelNotFound, "no model 'huge'; this server holds tiny"),
        (lambda m: m.unload("tiny", "9"), VersionNotFound, "has no version '9'; it has 1"),
        (lambda m: m.set_default("tiny", "9"), VersionNotFound, "has no version '9'"),
        (lambda m: m.set_default("huge"), ModelNotFound, "no model 'huge'"),
        (lambda m: m.set_default(""), InvalidRequest, "name the model"),
    ],
)
def test_what_is_not_there(
    tmp_path: Path, order: Callable[[ModelManager], Awaitable[Changes]], error: type[TenclipError], says: str
) -> None:
    make_bundle(tmp_path, "tiny", "1")

    async def scenario(manager: ModelManager, engine: Engine) -> None:
        before = engine.repository
        with pytest.raises(error, match=says):
            await order(manager)
        assert engine.repository is before

    managed(tmp_path, scenario)


def test_pins(tmp_path: Path) -> None:
    for version in ("1", "2", "10"):
        make_bundle(tmp_path, "tiny", version)

    async def scenario(manager: ModelManager, engine: Engine) -> None:
        assert engine.repository.get("tiny").version == "2"
        assert engine.repository.get("tiny", "10").version == "10"
        await manager.set_default("tiny", "1")
        assert engine.repository.get("tiny").version == "1"
        # A pin is a promise: another version must not answer in its stead.
        await manager.unload("tiny", "1")
        with pytest.raises(VersionNotFound, match="pinned to version '1', which is not served; it has 2, 10"):
            engine.repository.get("tiny")
        await manager.set_default("tiny")
        assert engine.repository.get("tiny").version == "10"

    managed(tmp_path, scenario, default_versions=("tiny:2",))


def test_a_pin_of_what_is_not_served_is_said_at_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_bundle(tmp_path, "tiny", "1")

    async def scenario(manager: ModelManager, engine: Engine) -> None:
        assert "the default version of tiny is pinned to 9, which is not served" in caplog.text

    managed(tmp_path, scenario, default_versions=("tiny:9",))


@pytest.mark.parametrize("value", ["tiny", "tiny:", ":1", "a:b:c"])
def test_a_pin_that_is_none(tmp_path: Path, value: str) -> None:
    with pytest.raises(ValueError, match="write NAME:VERSION"):
        ServerConfig(directory=tmp_path, default_versions=(value,))


# -- failures ---------------------------------------------------------------------------------------------------------


def drift(path: Path) -> None:
    other = make_bundle(path.parent.parent / ".drifted", path.parent.name, path.name, golden_shift=3.0)
    shutil.rmtree(path)
    other.rename(path)


def corrupt(path: Path) -> None:
    (path / "model.onnx").write_bytes(b"no graph")


def truncate(path: Path) -> None:
    (path / "bundle.json").write_text('{"name": "tiny"')


@pytest.mark.parametrize(("harm", "says"), [(drift, "drifts"), (corrupt, "SHA-256"), (truncate, "JSON")])
def test_a_bundle_that_fails_leaves_the_old_one_serving(
    tmp_path: Path, harm: Callable[[Path], None], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_bundle(tmp_path, "tiny", "1")

    async def scenario(manager: ModelManager, engine: Engine) -> None:
        old = engine.repository.get("tiny")
        harm(path)
        with pytest.raises(ModelError, match=rf"{says}.*the copy loaded before is still served"):
            await manager.load("tiny")
        assert engine.repository.get("tiny") is old
        failure = engine.repository.failure("tiny", "1")
        assert failure is not None
        assert says in failure.error
        assert sample(engine, "tenclip_model_load_failures_total", model="tiny") == 1
        assert sample(engine, "tenclip_models_failed") == 1
        assert "the copy loaded before is still served" in caplog.text
        # Mended, it takes the old one's place.
        shutil.rmtree(path)
        make_bundle(tmp_path, "tiny", "1")
        assert (await manager.reload()).loaded == (("tiny", "1"),)
        assert engine.repository.get("tiny") is not old
        assert not engine.repository.failed

    managed(tmp_path, scenario)


def test_no_memory_is_a_failure_like_any_other(tmp_path: Path) -> None:
    make_bundle(tmp_path, "tiny", "1")

    def starved(config: ServerConfig) -> Any:
        def create(*args: Any, **options: Any) -> Any:
            raise MemoryError

        return partial(load_bundle, create=create)

    async def scenario(manager: ModelManager, engine: Engine) -> None:
        with pytest.raises(ModelError, match="no memory left to load it; the copy loaded before is still served"):
            await manager.load("tiny")
        assert served(engine) == ["tiny/1"]

    managed(tmp_path, scenario, load=starved)


def test_of_several_versions_the_good_ones_are_loaded(tmp_path: Path) -> None:
    make_bundle(tmp_path, "tiny", "1")

    async def scenario(manager: ModelManager, engine: Engine) -> None:
        make_bundle(tmp_path, "tiny", "2", golden_shift=3.0)
        changes = await manager.load("tiny")
        assert changes.loaded == (("tiny", "1"),)
        assert [f.version for f in changes.failed] == ["2"]
        assert engine.repository.get("tiny").version == "1"
        with pytest.raises(ModelError, match="'2' could not be loaded"):
            engine.repository.get("tiny", "2")
        # A failure can be dismissed, too.
        await manager.unload("tiny", "2")
        assert not engine.repository.failed

    managed(tmp_path, scenario)


# -- following the directory ------------------------------------------------------------------------------------------


def test_reload_follows_the_directory(tmp_path: Path) -> None:
    for name in ("changed", "kept", "gone"):
        make_bundle(tmp_path, name, "1")

    async def scenario(manager: ModelManager, engine: Engine) -> None:
        old = {m.name: m for m in engine.repository}
        rewrite(tmp_path / "changed" / "1", family="again")
        shutil.rmtree(tmp_path / "gone")
        make_bundle(tmp_path, "new", "1")
        changes = await manager.reload()
        assert set(changes.loaded) == {("changed", "1"), ("new", "1")}
        assert changes.unloaded == (("gone", "1"),)
        now = {m.name: m for m in engine.repository}
        assert set(now) == {"changed", "kept", "new"}
        assert now["kept"] is old["kept"]
        assert now["changed"].bundle.info.family == "again"
        assert await manager.reload() == Changes()

    managed(tmp_path, scenario)


def test_a_directory_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "models"
    make_bundle(root, "tiny", "1")

    async def scenario(manager: ModelManager, engine: Engine) -> None:
        shutil.rmtree(root)
        with pytest.raises(BundleError, match="cannot be read"):
            await manager.reload()
        assert served(engine) == ["tiny/1"]

    managed(root, scenario)


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def test_the_watched_directory_is_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_bundle(tmp_path, "tiny", "1")

    async def scenario(manager: ModelManager, engine: Engine) -> None:
        make_bundle(tmp_path, "tiny", "2")
        await until(lambda: served(engine) == ["tiny/2", "tiny/1"])
        first = engine.repository.get("tiny", "1")
        rewrite(tmp_path / "tiny" / "1", family="again")
        await until(lambda: engine.repository.get("tiny", "1") is not first)
        shutil.rmtree(tmp_path / "tiny" / "2")
        await until(lambda: served(engine) == ["tiny/1"])
        corrupt(tmp_path / "tiny" / "1")
        await until(lambda: len(engine.repository.failed) == 1)
        assert served(engine) == ["tiny/1"]
        failures = sample(engine, "tenclip_model_load_failures_total", model="tiny")
        # All gone at once is a volume that was unmounted.
        shutil.rmtree(tmp_path / "tiny")
        await until(lambda: "is empty all at once" in caplog.text)
        assert served(engine) == ["tiny/1"]
        # What failed is not tried again before it changes.
        assert sample(engine, "tenclip_model_load_failures_total", model="tiny") == failures

    with caplog.at_level(logging.WARNING):
        managed(tmp_path, scenario, watch_seconds=0.02)


def test_the_watch_survives_a_directory_that_goes_and_comes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root, away = tmp_path / "models", tmp_path / "away"
    make_bundle(root, "tiny", "1")

    async def scenario(manager: ModelManager, engine: Engine) -> None:
        root.rename(away)
        await until(lambda: "not watched for now" in caplog.text)
        make_bundle(away, "tiny", "2")
        away.rename(root)
        await until(lambda: served(engine) == ["tiny/2", "tiny/1"])

    managed(root, scenario, watch_seconds=0.02)


def test_permissions_that_go_and_come_while_the_directory_is_watched(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(manager: ModelManager, engine: Engine) -> None:
        root = tmp_path

        def failures() -> set[Key]:
            return {(f.name, f.version) for f in engine.repository.failed}

        assert served(engine) == ["tiny/1"]
        with denied(root / "tiny"):
            make_bundle(root, "other", "1")
            await until(lambda: served(engine) == ["other/1", "tiny/1"])  # what was read before is served on
            await until(lambda: failures() == {("tiny", "")})
            with pytest.raises(ModelError, match=r"model 'tiny' could not be loaded: .*the copy loaded before"):
                await manager.load("tiny", "1")
            changes = await manager.reload()
            assert [(f.name, f.version) for f in changes.failed] == [("tiny", "")]
            assert served(engine) == ["other/1", "tiny/1"]
        await until(lambda: failures() == set())
        with denied(root / "other" / "1" / "bundle.json"):
            await until(lambda: failures() == {("other", "1")})
        await until(lambda: failures() == set())
        assert served(engine) == ["other/1", "tiny/1"]

    make_bundle(tmp_path, "tiny", "1")
    with stopped_by_permissions(), caplog.at_level(logging.INFO):
        managed(tmp_path, scenario, watch_seconds=0.02)
    assert "model gone" not in caplog.text


def test_instances_of_a_model_that_is_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_bundle(tmp_path, "tiny", "1")
    corrupt(make_bundle(tmp_path, "bad", "1"))

    async def scenario(manager: ModelManager, engine: Engine) -> None:
        pass

    managed(tmp_path, scenario, instances=("nope:2", "tiny:1", "bad:1", "1"))
    said = [r.getMessage() for r in caplog.records if r.getMessage().startswith("instances")]
    assert said == ["instances says 2 of nope, and there is no model of that name"]


# -- requests that run ------------------------------------------------------------------------------------------------


def test_a_request_keeps_its_model_which_goes_with_it(tmp_path: Path) -> None:
    """The old runtime answers what began on it, after its place was taken, and is let go after that."""
    make_bundle(tmp_path, "tiny", "1")
    video = make_video(tmp_path / "video.mp4")
    entered, go_on = threading.Event(), threading.Event()

    async def scenario(manager: ModelManager, engine: Engine) -> None:
        await engine.start()
        slow = _Blocking(engine.repository.get("tiny").runtime, entered, go_on)
        model = replace(engine.repository.get("tiny"), runtime=slow)
        engine.repository = with_model(engine.repository, model)
        ghosts: list[weakref.ref[Any]] = [weakref.ref(model), weakref.ref(slow)]
        del model, slow
        request = RecognitionRequest(data=video.read_bytes(), model="tiny", clips=ClipRequest(mode="center"))
        running = asyncio.create_task(engine.recognize(request))
        await asyncio.to_thread(entered.wait)
        await manager.load("tiny")
        assert all(ghost() is not None for ghost in ghosts)
        go_on.set()
        assert (await running).model == "tiny"
        del running
        gc.collect()
        assert [ghost() for ghost in ghosts] == [None, None]
        assert (await engine.recognize(request)).runtime == "onnxruntime"

    managed(tmp_path, scenario)


class _Blocking:
    """Announces itself and waits for a word before it runs."""

    batch_size = 1

    def __init__(self, runtime: Any, entered: threading.Event, go_on: threading.Event) -> None:
        self.name = "blocking"
        self._runtime, self._entered, self._go_on = runtime, entered, go_on

    def run(self, clips: Any) -> Any:
        self._entered.set()
        assert self._go_on.wait(30)
        return self._runtime.run(clips)


def test_a_caller_that_hangs_up_leaves_the_change_to_its_end(tmp_path: Path) -> None:
    make_bundle(tmp_path, "tiny", "1")
    entered, go_on = threading.Event(), threading.Event()

    def blocking(config: ServerConfig) -> Any:
        load = bundle_loader(config)

        def wait(path: Path, key: Key) -> ServedModel | FailedBundle:
            entered.set()
            assert go_on.wait(30)
            return load(path, key)

        return wait

    async def scenario(manager: ModelManager, engine: Engine) -> None:
        old = engine.repository.get("tiny")
        order = asyncio.create_task(manager.load("tiny"))
        assert await asyncio.to_thread(entered.wait, 30)
        order.cancel()
        with pytest.raises(asyncio.CancelledError):
            await order
        go_on.set()
        await manager.reload()  # after it
        assert engine.repository.get("tiny") is not old

    managed(tmp_path, scenario, load=blocking)


# -- pure parts -------------------------------------------------------------------------------------------------------


def test_fingerprints_see_every_change(tmp_path: Path) -> None:
    path = make_bundle(tmp_path, "tiny", "1")
    seen = {fingerprint(path)}
    changes: tuple[Callable[[], object], ...] = (
        lambda: (path / "labels.txt").write_text("other\n"),
        lambda: (path / "extra").mkdir(),
        lambda: (path / "extra" / "file").touch(),
        lambda: shutil.copy(path / "model.onnx", path / "copy") and (path / "copy").replace(path / "model.onnx"),
    )
    for change in changes:
        change()
        seen.add(fingerprint(path))
    assert len(seen) == 4  # an empty folder is nothing
    assert scan(tmp_path) == {("tiny", "1"): fingerprint(path)}
    assert fingerprint(tmp_path / "absent") == ()


_KEYS = st.tuples(st.sampled_from("abc"), st.sampled_from("123"))


@given(steps=st.lists(st.tuples(st.sampled_from(["model", "failure", "without"]), _KEYS), max_size=30))
def test_every_order_of_changes_keeps_the_books(served_model: ServedModel, steps: list[tuple[str, Any]]) -> None:
    """A model is replaced by a model only, never by a failure; a failure lasts until its bundle loads or goes."""
    repository = Repository()
    models: set[Key] = set()
    failed: set[Key] = set()
    for kind, key in steps:
        if kind == "model":
            info = replace(served_model.bundle.info, name=key[0], version=key[1])
            repository = with_model(repository, replace(served_model, bundle=replace(served_model.bundle, info=info)))
            models.add(key)
            failed.discard(key)
        elif kind == "failure":
            repository = with_failure(repository, FailedBundle(name=key[0], version=key[1], error="why"))
            failed.add(key)
        else:
            repository = without(repository, [key])
            models.discard(key)
            failed.discard(key)
        assert {(m.name, m.version) for m in repository} == models
        assert {(f.name, f.version) for f in repository.failed} == failed
        assert len(repository.failed) == len(failed)
        assert all(repository.models.values())


@pytest.fixture(scope="module")
def served_model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    root = tmp_path_factory.mktemp("one")
    make_bundle(root)
    return load_repository(root, runtime="onnxruntime", threads=1).get()


def test_a_flat_bundle_is_reloaded_under_its_name(tmp_path: Path) -> None:
    root = tmp_path / "mnt"
    shutil.copytree(make_bundle(tmp_path / "made", "tiny", "2"), root)

    async def scenario(manager: ModelManager, engine: Engine) -> None:
        assert served(engine) == ["moves/2"]
        assert (await manager.reload()) == Changes()
        rewrite(root, provenance={"changed": True})
        assert (await manager.reload()).loaded == (("moves", "2"),)
        assert (await manager.load("moves")).loaded == (("moves", "2"),)
        with pytest.raises(ModelNotFound, match="no bundle 'tiny'"):
            await manager.load("tiny")
        assert (await manager.unload("moves")).unloaded == (("moves", "2"),)
        assert served(engine) == []

    managed(root, scenario, name="moves")
