"""Each gate lets a good tree pass and fails a bad one, naming the place."""


def test_arrows_accept_earlier_folders(tree):
    tree.write("src/plan/a.cpp", '#include "core/error.h"\n#include "plan/a.h"\n#include <vector>\n')
    assert tree.gate("arrows")[0]


def test_arrows_refuse_later_folders(tree):
    tree.write("src/ir/a.cpp", '#include "core/error.h"\n#include "passes/pass.h"\n')
    passed, output = tree.gate("arrows")
    assert not passed and "src/ir/a.cpp:2" in output and "passes comes after ir" in output


def test_arrows_refuse_cuda_sources_too(tree):
    tree.write("src/core/a.cuh", '  # include "backend/kernels.h"\n')
    assert not tree.gate("arrows")[0]


def test_arrows_refuse_paths_that_are_not_from_src(tree):
    tree.write("src/core/a.cpp", '#include "error.h"\n')
    assert not tree.gate("arrows")[0]


def test_arrows_refuse_unknown_folders(tree):
    tree.write("src/utilities/a.cpp", "")
    assert not tree.gate("arrows")[0]


def test_sizes_accept_400_lines_and_name_more(tree):
    tree.write("src/core/a.cpp", "\n" * 400)
    tree.write("src/core/b.cpp", "\n" * 401)
    passed, output = tree.gate("sizes")
    assert passed and "a.cpp" not in output and "warning: src/core/b.cpp" in output


def test_sizes_refuse_over_700_lines_even_when_listed(tree):
    tree.write("src/core/a.cu", "\n" * 701)
    tree.write("scripts/long_files.txt", "src/core/a.cu: one table\n")
    passed, output = tree.gate("sizes")
    assert not passed and "src/core/a.cu" in output


def test_sizes_list_silences_with_a_reason(tree):
    tree.write("src/core/a.cpp", "\n" * 500)
    tree.write("scripts/long_files.txt", "# comment\nsrc/core/a.cpp: one table\n")
    passed, output = tree.gate("sizes")
    assert passed and "warning" not in output


def test_sizes_list_needs_reasons_and_long_files(tree):
    tree.write("src/core/a.cpp", "\n" * 500)
    tree.write("src/core/b.cpp", "\n" * 100)
    for line in ["src/core/a.cpp:", "src/core/b.cpp: was long", "src/core/c.cpp: gone"]:
        tree.write("scripts/long_files.txt", line + "\n")
        assert not tree.gate("sizes")[0], line


SETTINGS = "#pragma once\nstruct RecomputeOptions { int every = 0; };\nstruct Settings { RecomputeOptions recompute; };\n"


def test_options_accept_one_pass_and_the_table(tree):
    tree.write("src/core/settings.h", SETTINGS)
    tree.write("src/core/settings_table.cpp", "RecomputeOptions defaults;\n")
    tree.write("src/passes/recompute.h", "#pragma once\nPass recompute_pass(const RecomputeOptions& options);\n")
    tree.write("src/passes/recompute.cpp", "Pass recompute_pass(const RecomputeOptions& options) {}\n")
    tree.write("src/train/loop.cpp", "// RecomputeOptions are not read here.\n")
    tree.write("tests/passes/recompute_test.cpp", "RecomputeOptions options;\n")
    assert tree.gate("options")[0]


def test_options_refuse_another_folder(tree):
    tree.write("src/core/settings.h", SETTINGS)
    tree.write("src/passes/recompute.cpp", "Pass recompute_pass(const RecomputeOptions& options) {}\n")
    tree.write("src/train/loop.cpp", "bool keep(const RecomputeOptions& options);\n")
    passed, output = tree.gate("options")
    assert not passed and "src/train/loop.cpp: names RecomputeOptions" in output


def test_options_refuse_another_pass(tree):
    tree.write("src/core/settings.h", SETTINGS)
    tree.write("src/passes/offload.cpp", "const RecomputeOptions* other;\n")
    tree.write("src/passes/recompute.cpp", "Pass recompute_pass(const RecomputeOptions& options) {}\n")
    assert not tree.gate("options")[0]


def test_options_of_a_pass_header_belong_to_that_pass(tree):
    tree.write("src/passes/lora.h", "#pragma once\nstruct LoraOptions {\n  int rank = 8;\n};\n")
    assert tree.gate("options")[0]
    tree.write("src/passes/quantize.cpp", "LoraOptions options;\n")
    assert not tree.gate("options")[0]


def test_text_accepts_plain_files(tree):
    tree.write("src/core/a.h", "#pragma once\nint half(int value);  // rounds down\n")
    tree.write("README.md", "Models lie in ~/.cache; see docs/home/ and https://host/work/.\n")
    assert tree.gate("text") == (True, "text: passed\n")


def test_text_refuses_a_header_without_guard(tree):
    tree.write("src/core/a.cuh", "#ifndef A\n#pragma once\n")
    passed, output = tree.gate("text")
    assert not passed and "src/core/a.cuh:1" in output


def test_text_refuses_machine_paths(tree):
    for folder in ["ro" "ot", "ho" "me", "wo" "rk"]:
        tree.write("scripts/a.py", f'PATH = "/{folder}/me/model"\n')
        assert not tree.gate("text")[0], folder


def test_text_refuses_unfinished_marks(tree):
    for mark in ["TO" "DO", "FIX" "ME", "not yet imple" "mented", "for no" "w"]:
        tree.write("src/core/a.cpp", f"int a;  // {mark}: more\n")
        assert not tree.gate("text")[0], mark
