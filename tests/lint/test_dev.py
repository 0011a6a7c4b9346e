"""./dev's own behaviour, with the package tools replaced: nothing is installed or built here."""

import pathlib
import shutil
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def dev(tmp_path):
    """Runs a bash script after dev's own functions, in a copy that lies in a path with a space."""
    clone = tmp_path / "a clone"
    (clone / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "dev", clone / "dev")
    shutil.copytree(ROOT / "scripts" / "dev", clone / "scripts" / "dev")
    functions = "".join(f'source "$root/scripts/dev/{file.name}"\n' for file in sorted((ROOT / "scripts" / "dev").glob("*.sh")))

    def run(script):
        text = f'set -euo pipefail\nroot=$PWD\nassume_yes=1\n{functions}{script}'
        done = subprocess.run(["bash", "-c", text], cwd=clone, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr

    run.clone = clone
    return run


MISSING = "missing_packages() { [ -e installed ] || echo libfmt-dev; }\n"


def test_help_and_unknown_commands(dev):
    done = subprocess.run([dev.clone / "dev", "help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "./dev COMMAND" in done.stdout
    done = subprocess.run([dev.clone / "dev", "tset"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "unknown command 'tset'" in done.stderr


def test_without_root_the_one_line_is_printed(dev):
    status, output = dev(MISSING + "distribution() { echo debian-12; }\ninstall_prefix() { return 1; }\nneed_packages build\n")
    assert status == 1
    assert "  sudo apt-get update && sudo apt-get install -y libfmt-dev\n" in output


def test_other_systems_get_names_and_versions(dev):
    status, output = dev("has_package() { [ $2 != cmake ]; }\ndistribution() { echo fedora-40; }\nneed_packages build\n")
    assert status == 1 and "fedora-40" in output and "cmake 3.25" in output and "ninja" not in output


def test_nothing_is_installed_when_nothing_is_missing(dev):
    status, output = dev('missing_packages() { :; }\napt_install() { echo apt; }\nneed_packages build\necho "rest"\n')
    assert (status, output) == (0, "rest\n")


def test_empty_lists_are_fetched_before_installing(dev):
    status, output = dev(
        'env() { while [ "$1" != apt-get ]; do shift; done; "$@"; }\napt-get() { echo "apt-get $*"; }\n'
        'have_package_lists() { return 1; }\napt_install "" libfmt-dev\n')
    assert status == 0
    first, second = output.splitlines()
    assert first == "apt-get update" and second.endswith("libfmt-dev") and "DPkg::Lock::Timeout=600" in second


def test_old_lists_are_fetched_after_a_failure(dev):
    status, output = dev(
        'env() { while [ "$1" != apt-get ]; do shift; done; "$@"; }\nhave_package_lists() { :; }\n'
        'apt-get() { echo "apt-get $1"; [ "$1" = update ] && touch updated; [ -e updated ]; }\n'
        'apt_install "" libfmt-dev\n')
    assert status == 0 and output.splitlines() == ["apt-get -o", "apt-get update", "apt-get -o"]


def test_a_held_lock_is_waited_for_with_a_message(dev):
    status, output = dev('step() { echo "E: Could not get lock /var/lib/dpkg/lock"; sleep 1; }\nquietly lock "installing" step\n')
    assert status == 0 and "another program holds the package lock" in output


def test_a_failed_step_shows_the_end_of_its_log(dev):
    status, output = dev('step() { seq 1 500; echo "[1/2] noise"; echo wrong; return 3; }\nquietly step "building" step\n')
    assert status == 3
    assert "wrong" in output and "500" in output and "\n100\n" not in output and "noise" not in output
    assert "build/log/step.log" in output


def test_an_interrupted_dev_leaves_nothing_running(dev):
    status, output = dev(
        "step() { bash -c 'echo $$ > child; sleep 50; true'; }\n(sleep 0.5; kill -TERM $$) &\nquietly step working step || true\n")
    assert status == 130, output
    command_line = pathlib.Path("/proc", (dev.clone / "child").read_text(encoding="ascii").strip(), "cmdline")
    end = time.monotonic() + 10
    while command_line.exists() and command_line.read_bytes() and time.monotonic() < end:
        time.sleep(0.05)
    assert not command_line.exists() or not command_line.read_bytes()


@pytest.mark.parametrize("memory_gib, cores, jobs", [(24, 2, 2), (2, 8, 1), (6, 8, 4), (1, 2, 1)])
def test_jobs_follow_cores_and_memory(dev, memory_gib, cores, jobs):
    status, output = dev(f"usable_cores() {{ echo {cores}; }}\navailable_memory_kib() {{ echo {memory_gib * 1048576}; }}\nbuild_jobs\n")
    assert (status, output) == (0, f"{jobs}\n")


def test_a_full_disk_stops_before_building(dev):
    status, output = dev("df() { printf 'head\\n/dev/x 9 9 1000 1%% /mnt\\n'; }\nneed_disk 2 building\n")
    assert status == 1 and "building needs 2 GiB" in output


def test_demo_needs_neither_test_packages_nor_python(dev):
    status, output = dev(
        'need_packages() { echo "packages $*"; }\nneed_python() { echo python; }\ncompile() { echo "compile $*"; }\n'
        'mkdir -p build/release\nprintf "#!/bin/sh\\necho snug \\$*\\n" > build/release/snug\nchmod +x build/release/snug\n'
        "command_demo seed=1\n")
    assert status == 0 and output.splitlines() == ["packages build", "compile release", "snug demo seed=1"]


def test_changed_files_are_those_since_the_merge_base(dev):
    status, output = dev(
        "git init -q -b main .\ngit config user.email a@b\ngit config user.name a\n"
        "echo 1 > one.cpp\ngit add one.cpp\ngit commit -q -m one\necho 2 > two.cpp\ngit add two.cpp\ngit commit -q -m two\n"
        "changed_files | tr '\\0' '\\n' | grep cpp\necho --\ngit switch -q -c work\necho 3 > three.cpp\ngit add three.cpp\n"
        "git commit -q -m three\necho 4 > 'fo ur.cpp'\nchanged_files | tr '\\0' '\\n' | grep cpp\n")
    assert status == 0 and output.splitlines() == ["two.cpp", "--", "three.cpp", "fo ur.cpp"]
