"""`tilctl profile` as it is typed: each kind of mistake at its line, lists, sheets, the template."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from devices.mqtt.model import MqttProfileModel
from devices.profile import load_profile, profile_ids
from devices.profile_model import Evidence, ProfileModel
from devices.role import PARTS, ROLES
from tilctl.cli.main import main

TEMPLATE = Path(__file__).parents[2] / "devices" / "template.yaml"
TEXT = TEMPLATE.read_text("utf-8")


def tilctl(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["profile", *words])
    out, err = capsys.readouterr()
    return code, out, err


def changed(folder: Path, old: str, new: str) -> tuple[str, int]:
    """Write the template with one mistake; return its path, and the line at which that begins."""
    assert TEXT.count(old) == 1, old
    path = folder / "mine.yaml"
    path.write_text(TEXT.replace(old, new), "utf-8")
    return str(path), TEXT[: TEXT.index(old)].count("\n") + 1


MISTAKES = {
    "a command over denied registers": (
        "range: [300, 339]", "range: [201, 339]", "commands", "set_flow writes denied registers: passcode",
        "see deny[0]",
    ),
    "a point outside its block": (
        "  temperature: {block: values, addr: 102", "  temperature: {block: values, addr: 104", "here",
        "temperature (addresses 104 to 104) is outside block values", "values covers addresses 100 to 103",
    ),
    "an argument without limits": (
        "mL/min, min: 0, max: 500}", "mL/min}", "here", "value has no limits", "give min and max",
    ),
    "a command without read-back": (
        "verify: {within_ms: 2000, points: [{point: setpoint, equals: 0}]}", "verify: {within_ms: 2000}", "here",
        "give one of `points`, `echo` or `none`", "`none` takes the reason",
    ),
    "a read-back left out altogether": (
        "    verify: {within_ms: 2000, points: [{point: setpoint, equals: 0}]}\n", "", "",
        "give one of `points`, `echo` or `none`", "`none` takes the reason",
    ),
    "an unknown unit": (
        "type: int16, unit: degC", "type: int16, unit: Celsius", "here", "'Celsius' is not a canonical unit", "mL/min",
    ),
    "a word order that contradicts the example": (
        "words: [0x42C8, 0x0000]", "words: [0x0000, 0x42C8]", "here", "contradicts its example", "CDAB",
    ),
    "a scale that contradicts the example": (
        "reads: 100.0}", "reads: 10.0}", "here", "the example reads 100, not 10", "look at type, scale and offset",
    ),
    "an unknown key": ("bits: {0: sensor_fault", "bitts: {0: sensor_fault", "here", "unknown key 'bitts'", "bits"),
    "bad YAML": ("  state: {fc: 3", "  state: {{fc: 3", "", "yaml-", ""),
    "a missing point of the role": (
        "  flow:\n", "  flow_now:\n", "role", "a gas_flow must offer the point flow", "declare it, in mL/min",
    ),
    "a missing command of the role": (
        "  set_flow:\n", "  set_gas:\n", "role", "a gas_flow must offer the command set_flow", "arguments: value",
    ),
    "no such role": ("role: gas_flow ", "role: gas_flows ", "here", "there is no role gas_flows", "gas_flow"),
    "a rule about a bit that is none": (
        "[{bit: warming_up}]", "[{bit: warmed_up}]", "here", "no bit warmed_up", "must be declared",
    ),
    "memory that wears without a budget": ("{kind: volatile}", "{kind: eeprom}", "here", "needs a budget", "per_day"),
    "an evidence that is none": ("evidence: manual ", "evidence: hearsay ", "here", "hearsay", "bench"),
    "limits the type cannot hold": (
        "type: float32, unit: mL/min, min: 0, max: 500", "type: uint16, unit: mL/min, scale: 0.001, min: 0, max: 500",
        "here", "500000 does not fit uint16", "the type must hold every value",
    ),
    "a safe command that is none": ("safe_command: stop ", "safe_command: halt ", "here", "no command halt", ""),
    "a denied range the wrong way round": ("range: [300, 339]", "range: [339, 300]", "here", "[first, last]", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_each_kind_of_mistake_is_found_at_its_line(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str):
    old, new, where, says, hint = MISTAKES[name]
    path, line = changed(tmp_path, old, new)
    at = {"role": "  role: ", "commands": "      addr: 200\n"}.get(where)
    if at is not None:
        line = TEXT[: TEXT.index(at)].count("\n") + 1
    code, out, err = tilctl(capsys, "check", path)
    assert (code, err) == (2, "")
    findings = [text for text in out.splitlines() if text.startswith(f"{path}:") and "error[" in text]
    fitting = [text for text in findings if any(part in text for part in says.split("|"))]
    assert fitting, out
    assert hint in fitting[0]
    assert re.match(rf"{re.escape(path)}:\d+:\d+: error\[(profile|yaml)", fitting[0])
    if where:
        assert int(fitting[0].removeprefix(f"{path}:").split(":")[0]) == line, fitting[0]
    assert f"{path}: " in out.splitlines()[-1]


def test_every_finding_is_told_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        TEXT.replace("unit: degC", "unit: F").replace(", min: 0, max: 500", "").replace("300, 339", "200, 339")
    )
    code, out, _ = tilctl(capsys, "check", str(path))
    assert code == 2
    assert all(text in out for text in ("'F' is not a canonical unit", "has no limits", "denied registers"))
    assert out.splitlines()[-1] == f"{path}: {len(out.splitlines()) - 1} errors"


def test_the_template_passes_and_so_do_all_that_come_along(capsys: pytest.CaptureFixture[str]):
    code, out, err = tilctl(capsys, "check", str(TEMPLATE), *profile_ids())
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == (
        f"{TEMPLATE}: profile template 1, a gas_flow: no errors (evidence manual, 1 open check)"
    )
    assert len(out.splitlines()) == 1 + len(profile_ids())


def test_the_check_is_that_of_the_controller(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path, _ = changed(tmp_path, "mL/min, min: 0, max: 500}", "mL/min}")
    code, out, _ = tilctl(capsys, "check", path, str(TEMPLATE), "--json")
    told: dict[str, Any] = json.loads(out)
    bad, good = told["files"]
    assert (code, told["ok"], bad["ok"], good["ok"]) == (2, False, False, True)
    (finding,) = bad["diagnostics"]
    assert (finding["severity"], finding["code"], finding["file"]) == ("error", "profile-invalid", path)
    assert finding["hint"]
    assert good["profile"]["sha256"] == load_profile(TEMPLATE).sha256
    assert good["profile"]["open_checks"] == ["the word order of flow, against the display"]
    assert bad["profile"] is None


@pytest.mark.parametrize(("asked", "says"), [("no-such.yaml", "no such file"), ("nonsense", "no such file")])
def test_what_is_not_there_is_not_checked_and_the_rest_is(capsys: pytest.CaptureFixture[str], asked: str, says: str):
    code, out, _ = tilctl(capsys, "check", asked, str(TEMPLATE))
    assert code == 2
    assert says in out
    assert f"{asked}: not checked" in out
    assert "no errors" in out.splitlines()[-1]


@pytest.mark.parametrize("content", [b"\x00\xff", b"profile: " + b"[" * 5000, b"#" * (2 << 20), b"", b"- a\n"])
def test_any_bytes_are_judged_and_none_is_a_crash(capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes):
    path = tmp_path / "hostile.yaml"
    path.write_bytes(content)
    code, out, _ = tilctl(capsys, "check", str(path))
    assert code == 2
    assert "error[" in out


def test_a_file_cannot_write_to_the_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path, _ = changed(tmp_path, "maker: Maker", r'maker: "\e]0;owned\aOwner\nsource  none"')
    code, out, _ = tilctl(capsys, "doc", path)
    assert code == 0
    assert "\x1b" not in out
    assert "\a" not in out
    assert "\nsource  none" not in out
    broken, _ = changed(tmp_path, "role: gas_flow ", r'role: "x\e[2J" ')
    assert "\x1b" not in tilctl(capsys, "check", broken)[1]


def test_the_list_names_evidence_and_what_cannot_be_used(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    (tmp_path / "mine.yaml").write_text(TEXT)
    (tmp_path / "broken.yaml").write_text(TEXT.replace("unit: degC", "unit: F"))
    code, out, _ = tilctl(capsys, "list", "--folder", str(tmp_path))
    assert code == 0
    mine = next(line for line in out.splitlines() if line.startswith("template "))
    assert mine.split() == ["template", "gas_flow", "Maker", "Model", "manual", "tcp+rtu"]
    assert f"{tmp_path / 'broken.yaml'}: cannot be used: " in out
    listed = json.loads(tilctl(capsys, "list", "--json")[1])
    assert [each["id"] for each in listed["profiles"]] == list(profile_ids())
    assert listed["unusable"] == []
    with pytest.raises(SystemExit) as ended:
        main(["profile", "list", "--nonsense"])
    assert ended.value.code == 2
    assert tilctl(capsys, "list", "--folder", "/no/such")[0] == 2


def test_the_sheet_says_what_the_profile_says(capsys: pytest.CaptureFixture[str]):
    code, out, _ = tilctl(capsys, "doc", str(TEMPLATE))
    assert code == 0
    lines = {line.split("  ")[0].strip(): line for line in out.splitlines()}
    assert "after the maker's manual; never tried on the instrument" in lines["evidence"]
    assert "the word order of flow, against the display" in lines["open check"]
    assert "TCP port 502, unit 1; 9600 baud 8N1, unit 1" in lines["as delivered"]
    assert "register 0, uint16 reads 4660; serial number at 1" in lines["identity"]
    assert "the unit of flow must be mL/min" in lines["fc 3, 20"]
    flow = lines["flow"]
    for part in ("100..101 (0x0064..0x0065)", "float32 ABCD", "mL/min", "-10..600", "5 s", "p. 15", "reads -9999"):
        assert part in flow, part
    assert "bad: state" not in flow
    assert "bad: sensor_fault is true" in flow, "a rule about another block"
    assert "x 0.1" in lines["temperature"]
    assert "0..500 mL/min" in lines["set_flow"]
    assert "setpoint = value +-0.01 within 2 s" in lines["set_flow"]
    assert "only while mode = remote" in lines["set_flow"]
    assert "passcode and configuration" in lines["300..339 (0x012C..0x0153)"]
    assert "stop" in lines["made safe by"]


def test_the_sheet_of_an_instrument_over_mqtt_tells_of_its_topics(capsys: pytest.CaptureFixture[str]):
    code, out, _ = tilctl(capsys, "doc", "shelly-gen2-plug")
    assert code == 0
    lines = {line.split("  ")[0].strip(): line for line in out.splitlines()}
    assert "{prefix}/online is true; its will says false" in lines["online"]
    assert "mac of device" in lines["serial number"]
    assert re.search(r"\{prefix\}/command/switch:0: status_update, once older than \d+ s", out)
    assert "{reply}/rpc with id = {id}, dst = {reply} within 3 s; error.message says no" in lines["off"]
    assert lines["dead_man"].split() == ["dead_man", "timer_duration", "number", "0.0"]
    assert "0x0000" not in out, "it has no registers"


def test_the_sheet_as_markdown_is_whole(capsys: pytest.CaptureFixture[str]):
    for name in (str(TEMPLATE), *profile_ids()):
        code, out, _ = tilctl(capsys, "doc", name, "--markdown")
        assert code == 0
        tables = [part.splitlines() for part in out.split("\n\n") if part.startswith("|")]
        assert tables
        for table in tables:
            widths = {len(re.findall(r"(?<!\\)\|", row)) for row in table}
            assert len(widths) == 1, "a cell's own bar is no border"


def test_a_profile_that_cannot_be_used_has_no_sheet(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path, _ = changed(tmp_path, "unit: degC", "unit: F")
    code, out, err = tilctl(capsys, "doc", path)
    assert (code, out) == (2, "")
    assert "'F' is not a canonical unit" in err
    code, out, err = tilctl(capsys, "doc", "eurotherm")
    assert (code, out) == (2, "")
    assert "sim-pump" in err


def test_start_up_stays_light():
    """`tilctl --help` and the check import neither simulators nor drivers."""
    words = "import sys; from tilctl.cli.main import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
    words += "print([m for m in sys.modules if m.split('.')[0] in ('simulators', 'pymodbus', 'paho')])"
    for asked in (["--help"], ["profile", "check", str(TEMPLATE)]):
        done = subprocess.run([sys.executable, "-c", words, *asked], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]", asked


PAGE = (TEMPLATE.parent / "PROFILES.md").read_text("utf-8")


def test_an_id_that_is_not_the_name_of_its_file_is_a_warning(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path, _ = changed(tmp_path, "maker: Maker", "maker: Acme")
    code, out, _ = tilctl(capsys, "check", path)
    assert code == 0
    line = TEXT[: TEXT.index("  id: template")].count("\n") + 1
    warning, summary = out.splitlines()
    assert warning == (
        f"{path}:{line}:3: warning[profile-name]: the file is mine.yaml but declares the id template: a site does not"
        " find it as mine (hint: write id: mine, or rename the file)"
    )
    assert "no errors, 1 warning (" in summary
    (told,) = json.loads(tilctl(capsys, "check", path, "--json")[1])["files"]
    assert told["ok"]
    assert [(item["severity"], item["code"]) for item in told["diagnostics"]] == [("warning", "profile-name")]
    same = tmp_path / "template.yaml"
    same.write_text(TEXT.replace("maker: Maker", "maker: Acme"), "utf-8")
    code, out, _ = tilctl(capsys, "check", str(same))
    assert code == 0
    assert "warning[profile-name]: the id is still that of the template" in out
    same.write_text(TEXT, "utf-8")
    for asked in (str(same), str(TEMPLATE), "sim-pump"):
        assert "warning" not in tilctl(capsys, "check", asked)[1]


def test_numbers_that_overflow_are_findings_and_no_crash(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    for old, new, says in (
        ("type: float32, unit: mL/min, min: 0", "type: uint16, scale: 1e-320, unit: mL/min, min: 0", "no scale of"),
        ("range: [-10, 600]", f"range: [-10, 0x{'F' * 400}]", "is not a finite number"),
    ):
        path, line = changed(tmp_path, old, new)
        code, out, _ = tilctl(capsys, "check", path)
        assert code == 2
        assert re.search(rf"^{re.escape(path)}:{line}:\d+: error\[.*{says}", out, flags=re.MULTILINE), out
        assert max(map(len, out.splitlines())) < 400


def test_the_afternoon_begins_as_typed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    typed = re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL)[0].splitlines()
    copy, name = (row for row in typed if row.split()[0] in ("cp", "sed"))
    (tmp_path / "devices").symlink_to(TEMPLATE.parent)
    subprocess.run(["sh", "-ec", f"{copy}\n{name}"], cwd=tmp_path, check=True)
    (site,) = re.findall(r"```yaml\n(site: .*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "site.yaml").write_text(site, "utf-8")
    monkeypatch.chdir(tmp_path)
    code, out, _ = tilctl(capsys, "check", "my-mfc.yaml")
    assert (code, out.splitlines()) == (
        0, ["my-mfc.yaml: profile my-mfc 1, a gas_flow: no errors (evidence manual, 1 open check)"],
    )  # fmt: skip
    assert main(["device", "list", "--site", "site.yaml"]) == 0
    assert capsys.readouterr().out.split()[:3] == ["mfc", "gas_flow", "my-mfc"]


def keys(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[str]:
    """Return every key that a profile may have, of this model and of those in it."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        found.add(field.alias or name)
        for inner in models(field.annotation):
            if inner not in seen:
                found |= keys(inner, seen | {inner})
    return found


def models(kind: Any) -> list[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [model for part in get_args(kind) for model in models(part)]


def test_the_page_tells_of_every_key_and_of_every_role():
    told = " ".join(re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL) + re.findall(r"`([^`\n]+)`", PAGE))
    words = set(re.findall(r"[a-z0-9_]+", told))
    assert (keys(ProfileModel, set()) | keys(MqttProfileModel, set())) - words == set()
    assert {*ROLES, *PARTS} - words == set()
    assert set(get_args(Evidence)) <= set(re.findall(r"`([a-z+]+)`", PAGE))


def test_the_page_quotes_what_the_check_says(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path, _ = changed(tmp_path, "  temperature: {block: values, addr: 102", "  temperature: {block: values, addr: 104")
    out = tilctl(capsys, "check", path)[1].splitlines()[0]
    quoted = re.findall(r"^my-mfc.yaml:\d+:\d+: (.*)$", PAGE, flags=re.MULTILINE)
    assert quoted == [out.split(": ", 1)[1]]
