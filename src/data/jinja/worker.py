"""Renders chat templates for snug: frames come in on descriptor 0 and go out on descriptor 1.

A frame is a 4-byte little-endian length and so many bytes. The first one in is JSON:
{"templates": {NAME: TEXT}, "tokens": {NAME: TEXT}, "memory": BYTES}. The answer, and the answer to each later frame,
is a status byte (0 done, 1 refused) and a text or, for done renderings, see render(). A later frame is
{"messages": [...], "tools": [...] or null, "kwargs": {...}, "wanted": [[COUNT, GENERATION_PROMPT], ...]}.

The environment is transformers' (utils/chat_template_utils.py): sandboxed, trim_blocks, lstrip_blocks, loop controls,
the generation tag, tojson as json.dumps, raise_exception and strftime_now. Templates are untrusted: once jinja2 is
imported, this process opens no file, no socket and starts nothing.
"""

import ctypes
import json
import os
import resource
import struct
import sys
import time
from datetime import datetime


def read_exactly(count):
    parts = []
    while count:
        part = os.read(0, min(count, 1 << 20))
        if not part:
            os._exit(0)
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def read_frame():
    (count,) = struct.unpack("<I", read_exactly(4))
    return read_exactly(count)


def write_frame(status, payload):
    data = struct.pack("<IB", len(payload) + 1, status) + payload
    while data:
        data = data[os.write(1, data[: 1 << 20]) :]


try:
    import jinja2
    import jinja2.debug
    import jinja2.ext
    import jinja2.sandbox
except Exception as error:
    write_frame(1, f"cannot import jinja2: {error}".encode())
    os._exit(1)


class Generation(jinja2.ext.Extension):
    """{% generation %}...{% endgeneration %}: notes where its text stands behind what has come out so far."""

    tags = {"generation"}

    def __init__(self, env):
        super().__init__(env)
        env.extend(written=0, spans=[])

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller):
        text = caller()
        self.environment.spans.append((self.environment.written, self.environment.written + len(text)))
        return text


class PlainNamespace(jinja2.utils.Namespace):
    """Refuses names that begin with an underscore: templates are untrusted."""

    def __init__(*args, **kwargs):
        self, *rest = args
        values = dict(*rest, **kwargs)
        for name in values:
            PlainNamespace.check(name)
        jinja2.utils.Namespace.__init__(self, values)

    def __setitem__(self, name, value):
        PlainNamespace.check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace has no attribute {name!r}")


class PlainDict:
    """dict() without the class itself."""

    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)

    def fromkeys(self, *args):
        return dict.fromkeys(*args)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def strftime_now(form):
    return datetime.now().strftime(form)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    env.globals["dict"] = PlainDict()
    env.globals["namespace"] = PlainNamespace
    return env


def warm_up():
    """What Python and jinja2 load at first use, loaded now."""
    text = (
        "{% macro m(x) %}{{ x }}{% endmacro %}{% for x in [2, 1] | sort %}{% if loop.last %}{% break %}{% endif %}"
        "{% endfor %}{% generation %}{{ m('a\\n') }}{% endgeneration %}{{ {'a': 1.5} | tojson(indent=2) }}"
        "{{ strftime_now('%d %b %Y') }}{{ 'a' | title | pprint }}{% set n = namespace(a=1) %}{{ 'é' | upper | e }}"
    )
    environment().from_string(text).render()
    try:
        environment().from_string("{{ raise_exception('refused') }}").render()
    except jinja2.exceptions.TemplateError:
        pass


def closed_in(memory):
    """Limits of memory, and of system calls where the kernel has seccomp; True when the latter hold."""
    time.tzset()
    warm_up()
    try:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        libc = ctypes.CDLL(None, use_errno=True)
        if os.uname().machine != "x86_64":
            return False
        # read write close fstat lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn mremap msync
        # mincore madvise getpid exit gettimeofday getrusage times futex sched_yield clock_gettime clock_nanosleep
        # exit_group nanosleep sigaltstack restart_syscall gettid tgkill getrandom rseq
        allowed = [0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 25, 26, 27, 28, 39, 60, 96, 98, 100, 202, 24, 228, 230]
        allowed += [231, 35, 131, 219, 186, 234, 318, 334]
        code = [(0x20, 0, 0, 4), (0x15, 1, 0, 0xC000003E), (0x06, 0, 0, 0x80000000), (0x20, 0, 0, 0)]
        for place, number in enumerate(allowed):
            code.append((0x15, len(allowed) - place, 0, number))
        code += [(0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
        program = b"".join(struct.pack("<HBBI", *line) for line in code)
        text = ctypes.create_string_buffer(program, len(program))
        head = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(code), ctypes.addressof(text)))
        if libc.prctl(38, 1, 0, 0, 0) != 0:
            return False
        return libc.prctl(22, 2, ctypes.c_void_p(ctypes.addressof(head)), 0, 0) == 0
    except Exception:
        return False


def as_templates_read(message):
    """As transformers: no null members, and reasoning under both names that templates read."""
    kept = {key: value for key, value in message.items() if value is not None}
    for name in ("reasoning_content", "thinking", "reasoning"):
        if name in kept:
            return {"thinking": kept[name], **kept, "reasoning_content": kept[name]}
    return kept


def with_arguments(message):
    """Arguments of tool calls as maps where they are the JSON text of one."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return message
    changed = []
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            try:
                call = {**call, "function": {**function, "arguments": json.loads(function["arguments"])}}
            except ValueError:
                pass
        changed.append(call)
    return {**message, "tool_calls": changed}


class Renderer:
    def __init__(self, setup):
        self.env = environment()
        self.tokens = setup["tokens"]
        self.templates = {name: self.env.from_string(text) for name, text in setup["templates"].items()}

    def render_one(self, request, messages, generation_prompt):
        tools = request.get("tools") or None
        name = "tool_use" if tools and "tool_use" in self.templates else "default"
        variables = {**self.tokens, **(request.get("kwargs") or {})}
        self.env.written, self.env.spans = 0, []
        blocks = []
        for block in self.templates[name].generate(
            messages=messages, tools=tools, documents=None, add_generation_prompt=generation_prompt, **variables
        ):
            blocks.append(block)
            self.env.written += len(block)
        return "".join(blocks), self.env.spans

    def render(self, request):
        """Count, then for each rendering its length, its text, the number of spans and their bytes' begins and ends."""
        messages = [as_templates_read(message) for message in request["messages"]]
        parsed = [with_arguments(message) for message in messages]
        out = [struct.pack("<I", len(request["wanted"]))]
        for count, generation_prompt in request["wanted"]:
            try:
                text, spans = self.render_one(request, parsed[:count], generation_prompt)
            except TypeError:
                # Some templates join arguments to text.
                if parsed == messages:
                    raise
                text, spans = self.render_one(request, messages[:count], generation_prompt)
            data = text.encode("utf-8")
            out.append(struct.pack("<I", len(data)) + data + as_bytes(text, spans))
        return b"".join(out)


def as_bytes(text, spans):
    """Spans of characters as spans of bytes, packed."""
    packed = [struct.pack("<I", len(spans))]
    for begin, end in spans:
        first = len(text[:begin].encode("utf-8"))
        packed.append(struct.pack("<II", first, first + len(text[begin:end].encode("utf-8"))))
    return b"".join(packed)


def main():
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # ends with the process that started it
    setup = json.loads(read_frame())
    sys.setrecursionlimit(2000)
    # Before a template is compiled: constants are folded then.
    closed = closed_in(setup["memory"])
    try:
        renderer = Renderer(setup)
    except MemoryError:
        write_frame(2, b"takes more memory than it may")
        os._exit(1)
    except Exception as error:
        write_frame(2, f"{type(error).__name__}: {error}".encode("utf-8", "replace"))
        os._exit(1)
    write_frame(0, f"jinja2 {jinja2.__version__}{'' if closed else ', without seccomp'}".encode())
    while True:
        frame = read_frame()
        try:
            write_frame(0, renderer.render(json.loads(frame.decode("utf-8"))))
        except MemoryError:
            write_frame(1, b"takes more memory than it may")
        except Exception as error:
            write_frame(1, f"{type(error).__name__}: {error}".encode("utf-8", "replace"))


main()
