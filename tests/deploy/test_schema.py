"""The keys of an app: each shape of existing files is taken, each wrong value is refused with its line and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from openfactory.deploy.app import App
from openfactory.deploy.problems import InvalidFilesError
from openfactory.deploy.reading import read_apps

# Files of apps as users of the existing system have them, one for each shape, and the variables that they name.
SHAPES = {file.stem.removeprefix("app_"): file for file in Path(__file__).with_name("shapes").glob("*.yml")}
ENVIRON = {"CONTAINER_IP": "172.17.0.3", "TEMP_VERSION": "v1.2.0", "NETWORK": "factory-net"}


def read(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> list[App]:
    file = tmp_path / "app_x.yml"
    file.write_text(text, encoding="utf-8")
    return read_apps([file], environ or {})


def problems(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(InvalidFilesError) as raised:
        read(tmp_path, text, environ)
    return [str(problem).removeprefix(f"{tmp_path}/app_x.yml:") for problem in raised.value.problems]


def shape(name: str) -> list[App]:
    return read_apps([SHAPES[name]], ENVIRON)


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_a_file_of_the_existing_system_is_taken(name: str) -> None:
    assert len(shape(name)) == SHAPES[name].read_text(encoding="utf-8").count("uuid: ")


def test_all_files_of_a_folder_are_taken() -> None:
    apps = read_apps([Path(__file__).with_name("shapes")], ENVIRON)
    assert len(SHAPES) == 15
    assert len(apps) == 16
    assert [app.place.file for app in apps] == sorted(app.place.file for app in apps)


def test_values_are_those_of_the_file() -> None:
    [app] = shape("environment_with_blanks")
    assert app.settings.environment == ("LOG_LEVEL=INFO", "EMPTY=")
    [app] = shape("environment")
    assert app.settings.environment == ("LOG_LEVEL=DEBUG", "URL=http://host:80/?a=b")
    [app] = shape("two_storages_of_one_export")
    assert {storage["server"] for storage in app.settings.storage.values()} == {"172.17.0.3"}
    [app] = shape("networks_in_one_line")
    assert app.settings.networks == ("factory-net", "b")
    [app] = shape("deploy")
    assert app.settings.deploy.placement is not None
    assert app.settings.deploy.placement.constraints == ("node.role == manager", "node.labels.zone == a")
    [app] = shape("uns")
    assert app.settings.uns == {"area": "Machining", "station": "4"}
    temp, light = shape("several_apps")
    assert (temp.settings.image, light.settings.image) == ("temp:v1.2.0", "light:v1")
    assert (temp.place.line, light.place.line) == (3, 7)


def test_what_the_schema_adds_is_taken(tmp_path: Path) -> None:
    for name in ("mill.py", "mill.env", "token"):
        (tmp_path / name).touch()
    mill, drill = read(
        tmp_path,
        """\
x-common: &common {restart: no, x-note: any}
apps:
  mill:
    <<: *common
    uuid: mill
    file: mill.py
    environment: {DEBUG: true, VERSION: 1.10, COUNT: 3, EMPTY: "", SECRET: "${NO}", PRICE: 5 $$}
    env_file: mill.env
    secrets:
      db: ${PASSWORD}
      token: {file: token}
    labels: [a=b, c = d]
    health: {path: /live, port: 80, interval: 500ms, start_period: 1m30s}
    update: {order: stop-first, rollback: off, monitor: 0s}
    when: drill.status == idle
    stop_grace_period: 1m
    deploy: {resources: {limits: {memory: 1.5g, cpus: 2}, reservations: {memory: 512m}}}
    x-owner: line 4
  drill:
    uuid: drill
    command: python -m "drill one" ${FLAG}
    depends_on: [mill]
    when: {condition: mill.status == idle, timeout: 2h}
    routing: {expose: yes, port: "8080"}
""",
        {"PASSWORD": "hidden"},
    )
    settings = mill.settings
    assert settings.environment == ("DEBUG=true", "VERSION=1.10", "COUNT=3", "EMPTY=", "SECRET=", "PRICE=5 $")
    assert (settings.restart, settings.labels, settings.env_file) == ("no", {"a": "b", "c": "d"}, ("mill.env",))
    assert settings.secrets["db"].value is not None
    assert settings.secrets["db"].value.get_secret_value() == "hidden"
    assert "hidden" not in settings.model_dump_json()
    assert settings.secrets["token"].file == "token"
    assert settings.update.rollback is False
    assert settings.when is not None
    assert settings.when.condition == "drill.status == idle"
    assert drill.settings.command == ("python", "-m", "drill one")
    assert drill.settings.routing is not None
    assert (drill.settings.routing.expose, drill.settings.routing.port) == (True, 8080)


# Each is a key of an app in line 5 with a wrong value, and a part of its problem.
WRONG_VALUES = {
    "uuid: ''": "apps.mill.uuid: The text is empty.",
    "uuid: m": "'m' is not a UUID of an app.",
    "uuid: ___": "'___' is not a UUID of an app.",
    "uuid: -mill": "'-mill' is not a UUID of an app.",
    "uuid: mill one": "'mill one' is not a UUID of an app.",
    "uuid: mill.one": "'mill.one' is not a UUID of an app.",
    "uuid: 123": "123 is not text. Write it in quotes: '123'.",
    "uuid: [a]": "It is a list. Write a text.",
    "uuid:": "The key has no value.",
    "image: 1.5": "1.5 is not text. Write it in quotes: '1.5'.",
    "image: Plant/Mill": "'Plant/Mill' is not a reference of an image.",
    "image: 'plant/mill:'": "'plant/mill:' is not a reference of an image.",
    "image: 'plant/mill: x'": "is not a reference of an image.",
    "image_pull_policy: never": "'never' is not allowed. Write one of missing, always.",
    "image_pull_policy: allways": "Did you mean always?",
    "runtime_uid: 0": "0 is out of range. Write a whole number from 1 to",
    "runtime_uid: root": "'root' is not allowed. Write a whole number from 1 to",
    "runtime_uid: true": "true is not allowed. Write a whole number",
    "uns: Machining": "It is 'Machining'. Write a mapping of levels",
    "uns: {area: [a]}": "apps.mill.uns.area: It is a list. Write a text.",
    "environment: A=b": "'A=b' is not allowed. Write a list of NAME=value",
    "environment: [NAME]": "apps.mill.environment[0]: 'NAME' has no value. Write NAME=value",
    "environment: ['=x']": "The name of the variable is empty",
    "environment: ['A B=x']": "has a blank",
    "environment: [A=b, {C: d}]": "apps.mill.environment[1]: 'a mapping' has no value.",
    "environment: {A: [b]}": "apps.mill.environment.A: A is a list. Write a text.",
    "environment: {A: b, C: }": "apps.mill.environment.C: C is empty. Write C: '' for an empty text.",
    "environment: {A: b, C: ~}": "apps.mill.environment.C: C is empty.",
    "environment: [A=1, A=2]": "apps.mill.environment[1]: A is there twice.",
    "environment: [APP_UUID=x]": "APP_UUID cannot be set here, because the key uuid sets it.",
    "env_file: nothing.env": "/nothing.env' is not a file.",
    "env_file: [a, ' ']": "apps.mill.env_file[1]: The text is empty.",
    "secrets: [a]": "It is a list. Write a mapping of file, value.",
    "secrets: {'a b': x}": "'a b' cannot be a name",
    "secrets: {a: }": "apps.mill.secrets.a: It is empty. Write a mapping of file, value.",
    "secrets: {a: ''}": "apps.mill.secrets.a",
    "secrets: {a: {file: x, value: y}}": "The secret has a value and a file.",
    "secrets: {a: {file: nothing}}": "apps.mill.secrets.a.file: ",
    "secrets: {a: {fil: x}}": "Did you mean file?",
    "storage: [a]": "It is a list. Write names",
    "storage: {type: local, local_path: /a, mount_point: /b}": "The storage has no name.",
    "storage: {a: local}": "apps.mill.storage.a: It is 'local'. Write the settings",
    "storage: {a b: {type: local, local_path: /a, mount_point: /b}}": "apps.mill.storage.a b: 'a b' cannot be a name",
    "storage: {a: {local_path: /a, mount_point: /b}}": 'has no "type"',
    "storage: {a: {type: locl, mount_point: /b}}": "The type 'locl' does not exist. Write one of fsspec, local, nfs.",
    "storage: {a: {type: [x]}}": "The type is a list.",
    "storage: {a: {type: local, local_path: a, mount_point: /b}}": "apps.mill.storage.a.local_path: ",
    "storage: {a: {type: local, local_path: /a, mount_point: /b/../c}}": "apps.mill.storage.a.mount_point: ",
    "storage: {a: {type: local, local_path: /a, mountpoint: /b}}": "unknown field `mountpoint`",
    "storage: {a: {type: nfs, server: a_b, remote_path: /a, mount_point: /b}}": "apps.mill.storage.a.server: ",
    "storage: {a: {type: nfs, server: a, remote_path: /a, mount_point: /b, mount_options: rw}}": "Write a list: ",
    "storage: {a: {type: fsspec, url: nothing}}": "has no protocol",
    "routing: true": "It is true. Write a mapping of expose, hostname, port.",
    "routing: {expose: true}": "apps.mill.routing.expose: The route has no port.",
    "routing: {expose: maybe, port: 80}": "'maybe' is not allowed. Write true or false.",
    "routing: {expose: 1, port: 80}": "1 is not allowed. Write true or false.",
    "routing: {port: 0}": "0 is out of range. Write a whole number from 1 to 65535.",
    "routing: {port: 99999}": "99999 is out of range. Write a whole number from 1 to 65535.",
    "routing: {port: -1}": "-1 is out of range.",
    "routing: {port: 80.5}": "80.5 is not allowed. Write a whole number",
    "routing: {port: http}": "'http' is not allowed. Write a whole number",
    "routing: {port: '99999'}": "'99999' is out of range.",
    "routing: {prot: 80}": "`prot` is not a key of `routing`. Did you mean port? Allowed are expose, hostname, port,",
    "routing: {expose: true, port: 80, hostname: ___}": "'___' gives an empty host name.",
    f"routing: {{expose: true, port: 80, hostname: {'a' * 64}}}": "has 64 characters. Write a name of at most 63.",
    "metrics: {}": "apps.mill.metrics.port: The key is missing.",
    "metrics: {port: 0}": "0 is out of range.",
    "metrics: {port: 80, paht: /x}": "Did you mean path?",
    "metrics: {port: 80, path: x}": "'x' is not a path of a page.",
    "metrics: {port: 80, path: }": "apps.mill.metrics.path: The key has no value.",
    "networks: factory-net": "It is 'factory-net'. Write a list",
    "networks: ['']": "apps.mill.networks[0]: The text is empty.",
    "networks: [a, ' ']": "apps.mill.networks[1]: The text is empty.",
    "networks: [a b]": "'a b' is not a name of a network.",
    "networks: [a, a]": "apps.mill.networks[1]: The network a is there twice.",
    "labels: {a: [b]}": "a is a list. Write a text.",
    "labels: {openfactory.uuid: a}": "The label openfactory.uuid cannot be set here",
    "secrets: {a b: c}": "'a b' cannot be a name here. Write letters, digits",
    "labels: [a=b, a=c]": "The label a is there twice.",
    "restart: never": "'never' is not allowed. Write one of no, on-failure, always, unless-stopped.",
    "stop_grace_period: 10": "10 has no unit. Write one of ms, s, m and h after it: 10s.",
    "stop_grace_period: soon": "'soon' is not a duration.",
    "stop_grace_period: 2h": "'2h' is out of range. Write a duration from 0s to 1h.",
    "stop_grace_period: -5s": "'-5s' is not a duration.",
    "health: {interval: 0s}": "'0s' is out of range.",
    "health: {retries: 0}": "0 is out of range.",
    "health: {intervall: 5s}": "Did you mean interval?",
    "depends_on: [mil]": "The app 'mil' is not in these files. Did you mean mill?",
    "depends_on: [mill]": "The apps depend on each other in a circle: mill → mill.",
    "depends_on: mill": "Write a list",
    "update: {order: both}": "Write one of start-first, stop-first.",
    "update: {rollback: 3}": "Write true or false.",
    "when: {timeout: 5s}": "apps.mill.when.condition: The key is missing.",
    "when: {condition: a.b == 1, timeout: 8d}": "Write a duration from 0s to 7d.",
    "deploy: 3": "It is 3. Write a mapping of placement, replicas, resources.",
    "deploy: {replica: 3}": "Did you mean replicas?",
    "deploy: {replicas: 0}": "0 is out of range. Write a whole number from 1 to 1000.",
    "deploy: {replicas: -1}": "-1 is out of range.",
    "deploy: {replicas: }": "The key has no value. Write a whole number from 1 to 1000.",
    "deploy: {replicas: 9999999999999999999999}": "is not allowed. Write a whole number",
    "deploy: {memory: 1Gi}": "Did you mean deploy.resources.limits.memory?",
    "deploy: {resources: {limits: {memory: lots}}}": "'lots' is not a size of memory.",
    "deploy: {resources: {limits: {memory: 1Ki}}}": "'1Ki' is out of range. Write a size from 6Mi to 1000Gi.",
    "deploy: {resources: {limits: {memory: 1Ti}}}": "'1Ti' is not a size of memory.",
    "deploy: {resources: {limits: {memory: '1.5'}}}": "'1.5' has no unit.",
    "deploy: {resources: {limits: {memory: '-1'}}}": "'-1' is not a size of memory.",
    "deploy: {resources: {limits: {memory: -1}}}": "'-1' is not a size of memory.",
    "deploy: {resources: {limits: {memory: 512}}}": "512 is out of range. Write a size from 6Mi to 1000Gi.",
    "deploy: {resources: {limits: {cpus: 0}}}": "0 is out of range. Write a number from 0.01 to 1000",
    "deploy: {resources: {limits: {cpus: -0.5}}}": "-0.5 is out of range.",
    "deploy: {resources: {limits: {cpus: .nan}}}": "'.nan' is not allowed.",
    "deploy: {resources: {limits: {cpus: inf}}}": "is out of range.",
    "deploy: {resources: {limits: {cpus: true}}}": "true is not allowed.",
    "deploy: {resources: {limits: {open_files: 0}}}": "0 is out of range.",
    "deploy: {resources: {limit: {}}}": "Did you mean limits?",
    "deploy: {resources: {limits: {cpus: 1}, reservations: {cpus: 2}}}": "The reservation is greater than the limit.",
    "deploy: {resources: {limits: {memory: 1g}, reservations: {memory: 2Gi}}}": "reservations.memory: The reservation",
    "deploy: {placement: {constraints: [manager]}}": "apps.mill.deploy.placement.constraints[0]: 'manager' is not a",
    "deploy: {placement: {constraints: ['node.role=']}}": "is not a constraint.",
    "deploy: {placement: {constraint: []}}": "Did you mean constraints?",
    "imge: plant/mill": "`imge` is not a key of an app. Did you mean image?",
    "replicas: 2": "Did you mean deploy.replicas?",
    "hostname: x": "Did you mean routing.hostname?",
    "volumes: [a:b]": "`volumes` is not a key of an app. Allowed are command, depends_on,",
    "1: 2": "`1` is not a key of an app.",
}  # fmt: skip


@pytest.mark.parametrize("line", WRONG_VALUES)
def test_a_wrong_value_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    app = {"uuid": "uuid: mill", "image": "image: plant/mill"}
    key = line.partition(":")[0]
    lines = [text for name, text in app.items() if name != key]
    found = problems(tmp_path, "apps:\n  mill:\n" + "".join(f"    {text}\n" for text in (*lines, line)))
    assert len(found) == 1, found
    assert found[0].startswith(f"{3 + len(lines)}: apps.mill")
    assert WRONG_VALUES[line] in found[0]
    assert found[0].endswith((".", "?"))


# Whole files, with the lines and a part of each problem.
WRONG_FILES = {
    "": [(0, "The file is empty.")],
    "# nothing": [(0, "The file is empty.")],
    "apps": [(1, "The file is 'apps'.")],
    "- apps": [(1, "The file is a list.")],
    "apps:": [(1, "apps: It is empty.")],
    "apps: []": [(1, "apps: It is a list.")],
    "apps: {}": [(1, "apps: It is an empty mapping.")],
    "app:\n  a: {uuid: aa, image: b}": [(1, "`apps` is missing."), (1, "Did you mean apps?")],
    "apps:\n  a: {uuid: aa, image: b}\nservices: {}": [(3, "services: `services` is not a key of a file of apps.")],
    "apps:\n  a: {uuid: aa, image: b}\nx-more: {}\ndevices: {}": [],
    "apps:\n  a:\n  b: text": [(2, "apps.a: It is empty."), (3, "apps.b: It is 'text'.")],
    "apps:\n  a: {image: b}": [(2, "apps.a.uuid: The key is missing.")],
    "apps:\n  a:\n    uuid: aa": [(2, "apps.a.image: The app has no program.")],
    "apps:\n  a:\n    uuid: aa\n    image: b\n    file: nothing.py": [
        (5, "is not a file."),
        (5, "The app has several programs: image and file."),
    ],
    "apps:\n  a:\n    uuid: aa\n    image: b\n    command: c": [],
    "apps:\n  a:\n    uuid: aa\n    command: ''": [(4, "The text is empty.")],
    "apps:\n  a:\n    uuid: aa\n    command: '\"c'": [(4, "has an open quote.")],
    "apps:\n  a:\n    uuid: aa\n    command: []": [(4, "The command is empty.")],
    "apps:\n  a:\n    uuid: aa\n    image: ${X}": [(4, "The app has no program. ")],
    "apps:\n  a:\n    uuid: ${X}${Y}\n    image: b": [(3, "The variables X and Y are not set: set X and Y")],
    "apps:\n  a:\n    uuid: aa\n    image: b:${X}": [(4, "The variable X is not set: set X, or write ${X:-default}.")],
    "apps:\n  a:\n    uuid: aa\n    image: b:${X:?the tag}": [(4, "The variable X is not set: the tag. Set X.")],
    "apps:\n  a:\n    uuid: aa\n    image: b\n    networks: ['${X}']": [(5, "The variable X is not set")],
    "apps:\n  a:\n    uuid: aa\n    image: b\n    networks: ${X}\n    routing: ${X}": [],
    "apps:\n  a:\n    uuid: aa\n    image: b\n    secrets: {c: '${X}'}": [(5, "The variable X is not set")],
    "apps:\n  a:\n    uuid: aa\n    image: b\n    storage:\n"
    "      c: {type: nfs, server: '${X}', remote_path: /a, mount_point: /b}": [
        (6, "required field `server`")
    ],
    "apps:\n  a:\n    uuid: aa\n    image: b\n    runtime_uid: 5": [(5, "It has no runtime_gid beside it.")],
    "apps:\n  a:\n    uuid: aa\n    image: b\n    environment: [X=1, PORT=80]\n    routing: {port: 80}": [
        (5, "PORT cannot be set here, because the key routing.port sets it.")
    ],
    "apps:\n  a:\n    uuid: aa\n    image: b\n    environment:\n      STORAGE: x\n      NAME: y\n    storage:\n"
    "      c: {type: local, local_path: /a, mount_point: /b}\n"
    "      d: {type: local, local_path: /b, mount_point: /b/}": [
        (6, "apps.a.environment.STORAGE: STORAGE cannot be set here"),
        (10, "The storage c is mounted at /b too."),
    ],
    "apps:\n  a:\n    uuid: aa\n    image: b\n    uuid: bb": [(5, "`uuid` is there twice, first in line 3.")],
    f"apps:\n  a:\n    uuid: {'a' * 64}\n    image: b\n    routing: {{expose: true, port: 80}}": [(3, "64 characters")],
    "apps:\n  a:\n    uuid: aa\n    image: b\n    metrics: {port: 0}\n    when: ''\n    routing: {expose: true}": [
        (5, "apps.a.metrics.port: 0 is out of range"), (6, "apps.a.when"), (7, "The route has no port."),
    ],
    "x-a: &a {restart: no, restart: always}\napps:\n  a: {<<: [*a, *a], uuid: aa, image: b}": [
        (1, "apps.a.restart: `restart` is there twice"), (1, "x-a.restart: `restart` is there twice"),
    ],
    'apps:\n  a: {uuid: aa, image: b, uns: {"\\ud800": c}}': [(2, "apps.a.uns: A key has the character '\\ud800'")],
    "apps:\n  a: {uuid: aa, image: b, prot: 1, deploy: {replicas: 0}, routing: {expose: true}, networks: 1}": [
        (2, "apps.a.deploy.replicas"), (2, "apps.a.networks"), (2, "apps.a.prot"), (2, "apps.a.routing.expose"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG_FILES)
def test_all_problems_of_a_file_are_named(tmp_path: Path, text: str) -> None:
    expected = WRONG_FILES[text]
    if not expected:
        assert read(tmp_path, text)
        return
    found = problems(tmp_path, text)
    assert len(found) == len(expected), found
    for problem, (line, part) in zip(found, expected, strict=True):
        assert part in problem
        if line:
            assert problem.startswith(f"{line}: ")


def test_a_value_of_the_environment_is_not_shown_where_it_may_be_secret(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        "apps:\n  a:\n    uuid: aa\n    image: b\n    environment: ['${TOKEN}']\n"
        "    secrets: {s: {value: '${TOKEN}', file: x}}\n",
        {"TOKEN": "hidden"},
    )
    assert len(found) == 2
    assert "hidden" not in "".join(found)


def test_a_wrong_value_of_a_variable_is_shown_with_its_name(tmp_path: Path) -> None:
    text = "apps:\n  a:\n    uuid: aa\n    image: b\n    metrics: {port: '${PORT}'}\n"
    [problem] = problems(tmp_path, text, {"PORT": "99999"})
    assert "${PORT} (the text '99999') is out of range." in problem
    [app] = read(tmp_path, text, {"PORT": "9000"})
    assert app.settings.metrics is not None
    assert app.settings.metrics.port == 9_000


def test_settings_of_a_storage_have_the_types_that_they_show(tmp_path: Path) -> None:
    text = """\
apps:
  a:
    uuid: aa
    image: b
    storage:
      c: {type: fsspec, url: "sftp://h/x", read_only: ${RO}, options: {port: ${PORT}, password: "${PW}", key: $${KEY}}}
"""
    [app] = read(tmp_path, text, {"RO": "true", "PORT": "2222", "PW": "123"})
    assert app.settings.storage["c"] == {
        "type": "fsspec",
        "url": "sftp://h/x",
        "read_only": True,
        "options": {"port": 2222, "password": "123", "key": "${KEY}"},
    }
