"""Chat rows against transformers: equal tokens and equal masks; templates that misbehave end with a row's name."""

import json
import os
import subprocess
import sys

import pytest
import tokenizer_shapes as shapes
import transformers

CHATML_TAGGED = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content }}<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHATML = CHATML_TAGGED.replace("{% generation %}", "").replace("{% endgeneration %}", "")
TOOLS = (
    "{{- bos_token }}{%- if tools is not none %}{%- for tool in tools %}{{- tool | tojson(indent=2) }}\n{% endfor %}"
    "{%- endif %}{%- set ns = namespace(last=0) %}{%- for m in messages[::-1] %}{%- set ns.last = loop.index0 %}"
    "{%- if loop.first %}{%- continue %}{%- endif %}{%- break %}{%- endfor %}{%- for m in messages %}"
    "{%- if m.tool_calls is defined %}{%- for call in m.tool_calls %}{{- call.function.name ~ call.function.arguments | tojson }}"
    "{%- endfor %}{%- elif m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{%- endif %}"
    "{{- '[' + m['role'] + ']' }}{{ m['content'] | trim if m.content is string else m.content }}{{ eos_token }}"
    "{%- endfor %}{{ messages[0] | tojson }}{{ strftime_now('%Y') }}{{ namespace(a=1.0).a }} {{ true }}\n"
)
TEMPLATES = {"chatml": CHATML, "tagged": CHATML_TAGGED, "tools": TOOLS}

ROWS = [
    {"messages": [{"role": "user", "content": "hello there"}, {"role": "assistant", "content": "one two"}]},
    {"messages": [{"role": "system", "content": " be brief\n"}, {"role": "user", "content": "Grüße 🙂 <|im_end|>"},
                  {"role": "assistant", "content": "日本 \"x\""}, {"role": "user", "content": ""},
                  {"role": "assistant", "content": "<b>&'</b>"}]},
    {"messages": [{"zeta": 1.0, "role": "user", "content": "big", "alpha": [12345678901234567890, None, 1e-7]},
                  {"role": "assistant", "content": "", "tool_calls": [
                      {"type": "function", "function": {"name": "f", "arguments": {"b": 1, "a": "é"}}}]},
                  {"role": "tool", "content": "3"}, {"role": "assistant", "content": "three", "reasoning": "hm"}],
     "tools": [{"type": "function", "function": {"name": "f", "parameters": {"z": 1, "a": {}}}}]},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model folder without weights, and its tokenizer in transformers."""
    folder = tmp_path_factory.mktemp("chat") / "model"
    tokenizer = shapes.llama3()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|bos|>", eos_token="<|eos|>")
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    fast.save_pretrained(folder)
    transformers.LlamaConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                             num_key_value_heads=1, vocab_size=len(fast), max_position_embeddings=4096,
                             eos_token_id=0, architectures=["LlamaForCausalLM"]).save_pretrained(folder)
    return folder, fast


def inspect(tool, folder, rows, *settings, **environment):
    words = [tool("snug"), "inspect", f"model={folder}", f"data={rows}", "rows=99", "--json", *settings]
    return subprocess.run(words, capture_output=True, text=True, env=os.environ | {"SNUG_PYTHON": sys.executable} | environment)


def shown(tool, folder, rows, *settings):
    done = inspect(tool, folder, rows, *settings)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", TEMPLATES)
def test_tokens_and_masks_equal_transformers(name, tool, tmp_path, model):
    folder, fast = model
    template = tmp_path / "chat_template.jinja"
    template.write_text(TEMPLATES[name], encoding="utf-8")
    rows = write(tmp_path / "rows.jsonl", ROWS)
    trained = ["train_on=all"] if name != "tagged" else []
    got = shown(tool, folder, rows, f"chat_template={template}", *trained)
    assert got["chat_template"] == str(template)
    assert len(got["shown"]) == len(ROWS)
    for row, mine in zip(ROWS, got["shown"]):
        theirs = fast.apply_chat_template(row["messages"], tools=row.get("tools"), chat_template=TEMPLATES[name],
                                          return_dict=True, return_assistant_tokens_mask=name == "tagged")
        assert mine["input_ids"] == theirs["input_ids"]
        if name == "tagged":
            assert mine["trained"] == theirs["assistant_masks"]
        else:
            assert mine["trained"] == [0] + [1] * (len(mine["input_ids"]) - 1)


def test_masks_by_prefixes_and_what_is_trained(tool, tmp_path, model):
    folder, fast = model
    template = tmp_path / "plain.jinja"
    template.write_text(CHATML, encoding="utf-8")
    rows = write(tmp_path / "rows.jsonl", [ROWS[1]])

    def trained(*settings, data=rows):
        row = shown(tool, folder, data, f"chat_template={template}", *settings)["shown"][0]
        return [s["text"] for s in row["segments"] if s["trained"]]

    first, last = '日本 "x"<|im_end|>\n', "<b>&'</b><|im_end|>\n"
    assert trained() == [first, last]
    assert trained("train_on=assistant") == [first, last]
    assert trained("train_on=last") == [last]
    assert len(trained("train_on=whole_messages")) == 1
    weighted = json.loads(json.dumps(ROWS[1]))
    weighted["messages"][4]["weight"] = 0
    assert trained(data=write(tmp_path / "weighted.jsonl", [weighted])) == [first]
    parts = {"prompt": ROWS[0]["messages"][:1], "completion": ROWS[0]["messages"][1:]}
    assert trained(data=write(tmp_path / "parts.jsonl", [parts])) == ["one two<|im_end|>\n"]
    shared = {"conversations": [{"from": "human", "value": "hello there"}, {"from": "gpt", "value": "one two"}]}
    assert trained(data=write(tmp_path / "shared.jsonl", [shared])) == ["one two<|im_end|>\n"]


def test_a_template_that_rewrites_the_past_is_refused(tool, tmp_path, model):
    folder, _ = model
    template = tmp_path / "forgets.jinja"
    template.write_text("{% for m in messages %}{{ m.role }}:{% if loop.last %}<think></think>{% endif %}{{ m.content }}\n{% endfor %}")
    rows = write(tmp_path / "rows.jsonl", [ROWS[1]])
    done = inspect(tool, folder, rows, f"chat_template={template}")
    assert done.returncode == 1 and "rows.jsonl:1" in done.stderr and "train_on=last" in done.stderr
    assert shown(tool, folder, rows, f"chat_template={template}", "train_on=last")["rows"] == 1


@pytest.mark.parametrize("text, said", [
    ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
    ("{{ messages[0].nope.x }}", "UndefinedError"),
    ("{% set x = 'ab' * 10 ** 10 %}", "memory"),
    ("{{ messages[0].__class__.__mro__[1].__subclasses__() }}", "SecurityError"),
    ("{% if %}", "TemplateSyntaxError"),
])
def test_templates_that_misbehave_are_named(text, said, tool, tmp_path, model):
    template = tmp_path / "bad.jinja"
    template.write_text(text)
    done = inspect(tool, model[0], write(tmp_path / "rows.jsonl", ROWS[:1]), f"chat_template={template}")
    assert done.returncode == 1, done.stderr
    assert said in done.stderr and "bad.jinja" in done.stderr


def test_without_a_template_or_python_it_says_what_to_do(tool, tmp_path, model):
    rows = write(tmp_path / "rows.jsonl", ROWS[:1])
    done = inspect(tool, model[0], rows)
    assert done.returncode == 1 and "chat_template=chatml" in done.stderr
    done = inspect(tool, model[0], rows, "chat_template=chatml", SNUG_PYTHON="/nowhere/python3")
    assert done.returncode == 1 and "/nowhere/python3" in done.stderr and "python3-jinja2" in done.stderr
    assert shown(tool, model[0], rows, "chat_template=chatml")["rows"] == 1


def test_bad_rows_are_skipped_and_counted(tool, tmp_path, model):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "good one"}\n{"text": 3}\n{"text": "b"\n{"input_ids": [1, 2]}\n{"text": "another"}\n')
    assert inspect(tool, model[0], rows).returncode == 1
    got = shown(tool, model[0], rows, "bad_rows=skip")
    assert (got["rows"], got["bad"]) == (2, 3)
    assert [reason.split(": ")[0] for reason in got["bad_rows"]] == [f"{rows}:{n}" for n in (2, 3, 4)]


def test_the_end_is_the_tokenizers(tool, tmp_path, model):
    folder, fast = model
    rows = write(tmp_path / "rows.jsonl", [{"text": "good one"}, {"text": "good one<|eos|>"}])
    first, second = (row["input_ids"] for row in shown(tool, folder, rows)["shown"])
    assert first == second and first[-1] == fast.eos_token_id != 0 and first[-2] != fast.eos_token_id
    other = tmp_path / "other"
    other.mkdir()
    for file in folder.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    config = json.loads((other / "tokenizer_config.json").read_text())
    (other / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": None}))
    for name in ("special_tokens_map.json",):
        (other / name).unlink(missing_ok=True)
    assert shown(tool, other, rows)["shown"][0]["input_ids"] == first[:-1]


def test_a_named_template_is_saved_with_the_model(tool, tmp_path):
    subprocess.run([tool("snug"), "demo", "make", f"output_dir={tmp_path / 'demo'}"], check=True, capture_output=True)
    template = tmp_path / "own.jinja"
    template.write_text("{% for m in messages %}{{ m.content }}{% if m.role == 'user' %} ={% else %}{{ eos_token }}{% endif %}{% endfor %}")
    rows = write(tmp_path / "rows.jsonl", [{"messages": [{"role": "user", "content": f"sort {a}b"},
                                                         {"role": "assistant", "content": f" {a}b"}]} for a in "cdefgh"])
    subprocess.run([tool("snug"), "train", f"model={tmp_path / 'demo' / 'model'}", f"data={rows}", "max_steps=1", "threads=1",
                    f"chat_template={template}", f"output_dir={tmp_path / 'out'}"], check=True, capture_output=True,
                   env=os.environ | {"SNUG_PYTHON": sys.executable})
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == template.read_text()
