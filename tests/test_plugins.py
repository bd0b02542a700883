"""Plugins are admitted one at a time; a broken one is named and harms nothing else."""

from __future__ import annotations

import subprocess
import sys
import types
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from probekit.api import BackbonePlugin, Descriptor, LabelSourcePlugin, ProbePlugin, hookimpl
from probekit.plugins import Candidate, PluginError, discover, load_plugins, load_target


def offering(hook: str, answer: object) -> object:
    """A plugin with one hook that returns ``answer``, or raises it."""
    plugin = types.SimpleNamespace()

    def implementation():
        if isinstance(answer, BaseException):
            raise answer
        return answer

    setattr(plugin, hook, hookimpl(implementation))
    return plugin


def candidate(distribution: str, hook: str = "probekit_backbones", answer: object = None) -> Candidate:
    return Candidate(distribution, "1.0", distribution, lambda: offering(hook, answer))


def net(name: str, **fields: object) -> BackbonePlugin:
    return BackbonePlugin(name, fields.pop("summary", "a network"), fields.pop("target", "m:C"), **fields)


def test_what_is_offered_is_found_by_kind() -> None:
    plugins = load_plugins(
        [
            candidate("d-probes", "probekit_probes", [ProbePlugin("path", "a path", "m:P")]),
            candidate("d-nets", answer=(net(name) for name in ("sam", "timm"))),
            candidate("d-masks", "probekit_label_sources", (LabelSourcePlugin("masks", "masks", "m:M"),)),
        ]
    )
    assert plugins.failures == ()
    assert [(p.kind, p.qualified, p.version) for p in plugins.all] == [
        ("backbone", "d-nets/sam", "1.0"),
        ("backbone", "d-nets/timm", "1.0"),
        ("label source", "d-masks/masks", "1.0"),
        ("probe", "d-probes/path", "1.0"),
    ]
    assert plugins.backbone("sam") is plugins.backbone("d-nets/sam")
    assert plugins.label_source("masks").descriptor.target == "m:M"
    assert plugins.probe("path").distribution == "d-probes"
    assert [p.kind for p in plugins.named("sam")] == ["backbone"]
    assert plugins.named("none") == ()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("samm", "no plugin named 'samm'; did you mean 'sam'? (probekit plugins lists them)"),
        ("d-nets/samm", "no plugin named 'd-nets/samm'; did you mean 'd-nets/sam'? (probekit plugins lists them)"),
        ("zzz", "no plugin named 'zzz' (probekit plugins lists them)"),
        ("path", "'path' is a probe, not a backbone"),
        ("", "no plugin named '' (probekit plugins lists them)"),
        ("/", "no plugin named '/' (probekit plugins lists them)"),
    ],
)
def test_what_is_not_there(name: str, message: str) -> None:
    plugins = load_plugins(
        [candidate("d-nets", answer=[net("sam")]), candidate("d", "probekit_probes", [ProbePlugin("path", "a", "m:P")])]
    )
    with pytest.raises(PluginError) as caught:
        plugins.backbone(name)
    assert str(caught.value) == message


def test_a_name_that_two_claim_is_an_error_only_by_its_bare_name() -> None:
    plugins = load_plugins([candidate("d-b", answer=[net("sam"), net("own")]), candidate("d-a", answer=[net("sam")])])
    with pytest.raises(PluginError) as caught:
        plugins.backbone("sam")
    assert str(caught.value) == "'sam' is claimed by d-a and d-b; write d-a/sam or d-b/sam"
    assert plugins.backbone("d-a/sam").distribution == "d-a"
    assert plugins.backbone("d-b/sam").distribution == "d-b"
    assert plugins.backbone("own").distribution == "d-b"
    assert len(plugins.named("sam")) == 2


def test_a_name_may_be_claimed_once_a_kind() -> None:
    both = types.SimpleNamespace(
        probekit_backbones=hookimpl(lambda: [net("sam")]),
        probekit_label_sources=hookimpl(lambda: [LabelSourcePlugin("sam", "its masks", "m:M")]),
    )
    plugins = load_plugins([Candidate("d", "1", "d", lambda: both)])
    assert plugins.backbone("sam").kind == "backbone"
    assert plugins.label_source("sam").kind == "label source"


def _raises(error: BaseException):
    def load() -> object:
        raise error

    return load


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        (_raises(ImportError("no module\nnamed x")), "ImportError: no module named x"),
        (_raises(SystemExit("bye")), "SystemExit: bye"),
        (_raises(SyntaxError("bad")), "SyntaxError: bad"),
        (lambda: offering("probekit_backbones", RuntimeError("no")), "RuntimeError: no"),
        (lambda: offering("probekit_backbones", None), "probekit_backbones returned nothing, not a list"),
        (lambda: offering("probekit_backbones", net("a")), "probekit_backbones returned BackbonePlugin"),
        (lambda: offering("probekit_backbones", 3), "probekit_backbones returned int 3, not a list"),
        (lambda: offering("probekit_backbones", ["sam"]), "a list with str 'sam', not BackbonePlugin"),
        (lambda: offering("probekit_probes", [net("a")]), "a list with BackbonePlugin"),
        (lambda: offering("probekit_backbones", [Descriptor("a", "b", "m:C")]), "a list with Descriptor"),
        (lambda: offering("probekit_backbones", [net("a"), net("a")]), "returned 'a' twice"),
        (lambda: offering("probekit_backbones", [net("A b")]), "the name of 'A b' must be lower case, digits"),
        (lambda: offering("probekit_backbones", [net("a", summary="x\ny")]), "the summary of 'a' must be one line"),
        (lambda: offering("probekit_backbones", [net("a", target="m.C")]), "'package.module:Class', it is 'm.C'"),
        (lambda: offering("probekit_backbones", [net("a", version=3)]), "the version of 'a' must be text, it is 3"),
        (lambda: offering("probekit_backbones", [net("a", parameters=dict)]), "are no subclass of Parameters"),
        (lambda: offering("probekit_backbones", [net("a", default_layers="top")]), "default_layers of 'a' must be"),
        (lambda: offering("probekit_probes", [ProbePlugin("a", "b", "m:C", upstream="x")]), "has no parameter 'x'"),
        (lambda: offering("probekit_backbone", [net("a")]), "unknown hook 'probekit_backbone'"),
        (types.SimpleNamespace, "implements none of the hooks"),
    ],
)  # fmt: skip
def test_a_broken_plugin_is_set_aside_and_named_where_it_is_used(load, reason: str) -> None:
    plugins = load_plugins([Candidate("d-bad", "0.1", "bad", load), candidate("d-good", answer=[net("good")])])
    (failure,) = plugins.failures
    assert reason in failure.reason
    assert "\n" not in str(failure)
    assert "Traceback" in failure.traceback
    assert [p.descriptor.name for p in plugins.all] == ["good"]
    assert plugins.backbone("good").distribution == "d-good"
    for name in ("bad", "d-bad/bad", "d-bad/whatever"):
        with pytest.raises(PluginError, match=r"^plugin 'bad' \(from d-bad 0.1\) failed to load: "):
            plugins.probe(name)
    with pytest.raises(PluginError, match=r"no plugin named 'odd' .*; failed to load: bad \(from d-bad\)$"):
        plugins.backbone("odd")


def test_what_a_plugin_offered_before_it_failed_is_set_aside_with_it() -> None:
    plugin = types.SimpleNamespace(
        probekit_backbones=hookimpl(lambda: [net("sam")]),
        probekit_probes=hookimpl(lambda: 1 / 0),
    )
    plugins = load_plugins([Candidate("d", "1", "entry", lambda: plugin)])
    assert plugins.all == ()
    with pytest.raises(PluginError, match=r"plugin 'entry' \(from d 1\) failed to load: ZeroDivisionError"):
        plugins.backbone("sam")


def test_entry_points_of_installed_distributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, body in (
        ("stranger_good", "from probekit.api import *\n@hookimpl\ndef probekit_backbones():\n"
         "    return [BackbonePlugin('stranger', 'a net', 'stranger_good:Net')]\nclass Net: ...\n"),
        ("stranger_bad", "import nothing_of_that_name\n"),
    ):  # fmt: skip
        (tmp_path / f"{name}.py").write_text(body)
        info = tmp_path / f"{name}-2.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 2.0\n")
        (info / "entry_points.txt").write_text(f"[probekit]\n{name} = {name}\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = [one for one in discover() if one.distribution.startswith("stranger")]
    assert [(one.distribution, one.version) for one in found] == [("stranger-bad", "2.0"), ("stranger-good", "2.0")]
    plugins = load_plugins(found)
    assert plugins.backbone("stranger-good/stranger").load().__name__ == "Net"
    with pytest.raises(PluginError, match="ModuleNotFoundError: No module named 'nothing_of_that_name'"):
        plugins.backbone("stranger_bad")


def test_an_entry_point_that_is_none_is_that_plugins_fault() -> None:
    entry = EntryPoint("odd", "not a module!", "probekit")
    (failure,) = load_plugins([Candidate("d", "1", "odd", entry.load)]).failures
    assert failure.name == "odd"


def test_load_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "target_good.py").write_text("class Net: ...\nvalue = 3\n")
    (tmp_path / "target_needy.py").write_text("import sklearn_of_tomorrow.linear\n")
    (tmp_path / "target_buggy.py").write_text("import json\njson.nothing\n")
    (tmp_path / "target_library.py").write_text("raise ImportError('libodd.so:\\n cannot open')\n")
    assert load_target(net("a", target="target_good:Net")).__name__ == "Net"
    for target, message in (
        ("target_good:None_", "plugin 'a' (from d) names target_good:None_, but target_good has no None_"),
        ("target_good:value", "plugin 'a' (from d) names target_good:value, which is no class"),
        ("target_none:Net", "plugin 'a' (from d) names target_none:Net, but there is no module target_none"),
        ("target_good.x:Net", "plugin 'a' (from d) names target_good.x:Net, but there is no module target_good.x"),
        ("target_needy:Net", "plugin 'a' (from d) needs the module 'sklearn_of_tomorrow', which is not "
         "installed: uv pip install 'sklearn-of-tomorrow'"),
        ("target_library:Net", "plugin 'a' (from d) failed to load: ImportError: libodd.so: cannot open"),
    ):  # fmt: skip
        with pytest.raises(PluginError) as caught:
            load_target(net("a", target=target), "d")
        assert str(caught.value) == message
    with pytest.raises(AttributeError):  # a bug of the plugin's is shown as one
        load_target(net("a", target="target_buggy:Net"))


def test_a_missing_dependency_is_called_as_its_distribution_requires_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "stranger_linear-2.0.dist-info"
    info.mkdir()
    requires = "Requires-Dist: scikit-learn>=1.8 ; python_version > '3'\nRequires-Dist: numpy\n"
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: stranger-linear\nVersion: 2.0\n{requires}")
    (tmp_path / "target_linear.py").write_text("import sklearn\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(PluginError, match=r"uv pip install 'scikit-learn>=1\.8'"):
        load_target(net("a", target="target_linear:Net"), "stranger-linear")


def test_listing_what_is_installed_imports_nothing_heavy() -> None:
    code = (
        "import sys, probekit.spec, probekit.plugins as p\n"
        "plugins = p.load_plugins()\n"
        "from probekit.spec import experiment_schema\n"
        "experiment_schema(plugins)\n"
        "heavy = {'torch', 'torchvision', 'timm', 'sklearn', 'scipy', 'pandas', 'pyarrow', 'PIL', 'cv2'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
