"""The pinned clang-format and clang-tidy are on: a bad layout and a bad name fail with the repository's own settings."""

import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

GOOD = """namespace snug {
class Counter {
 public:
  int next() { return ++count_; }

 private:
  int count_ = 0;
};
constexpr int kLimit = 3;
}  // namespace snug

int main() {
  snug::Counter counter;
  return counter.next() - kOne;
}
"""


def tidy(wheel_binary, folder, text):
    """(status, output) of clang-tidy on text as a file of src/."""
    source = folder / "src" / "core" / "a.cpp"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(text.replace("kOne", "1"), encoding="utf-8")
    (folder / ".clang-tidy").write_text((ROOT / ".clang-tidy").read_text(encoding="utf-8"), encoding="utf-8")
    run = subprocess.run([wheel_binary("clang-tidy"), "--quiet", source, "--", "-std=c++20"],
                         capture_output=True, text=True, check=False)
    return run.returncode, run.stdout + run.stderr


def test_tidy_accepts_good_names(wheel_binary, tmp_path):
    status, output = tidy(wheel_binary, tmp_path, GOOD)
    assert status == 0, output


@pytest.mark.parametrize("good, bad", [
    ("next()", "NextCount()"),
    ("Counter", "counter_type"),
    ("count_", "count"),
    ("kLimit", "limit"),
])
def test_tidy_refuses_bad_names(wheel_binary, tmp_path, good, bad):
    status, output = tidy(wheel_binary, tmp_path, GOOD.replace(good, bad))
    assert status != 0 and "readability-identifier-naming" in output


def test_tidy_refuses_bugs(wheel_binary, tmp_path):
    status, output = tidy(wheel_binary, tmp_path, "int* find() { return 0; }\nint main() { return find() != nullptr; }\n")
    assert status != 0 and "modernize-use-nullptr" in output


@pytest.mark.parametrize("suffix", [".h", ".cpp", ".cu", ".cuh"])
def test_format_covers_every_kind_of_file(wheel_binary, tmp_path, suffix):
    (tmp_path / ".clang-format").write_text((ROOT / ".clang-format").read_text(encoding="utf-8"), encoding="utf-8")
    source = tmp_path / f"a{suffix}"
    command = [wheel_binary("clang-format"), "--dry-run", "-Werror", source]
    source.write_text("int half(int value) { return value / 2; }\n", encoding="utf-8")
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    source.write_text("int half(int value)\n{ return value/2; }\n", encoding="utf-8")
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
