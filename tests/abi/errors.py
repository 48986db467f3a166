"""Fails in every way there is, through the C API: errors.py ctypes|cffi LIBRARY HEADER OPEN LOCKED TLS CLOSED

The last four are registries (host:port): one that serves oddities, one that wants credentials, one whose certificate
nobody trusts, and one that is not there. Each failure is a line of JSON; errors.rs has the same calls in Rust.
"""
import ctypes
import json
import re
import sys

backend, library, header_path, *registries = sys.argv[1:]
header = open(header_path).read()
numbers = {name: int(value) for name, value in re.findall(r"^#define (RT_\w+) (\d+)$", header, re.MULTILINE)}


class WithCtypes:
    """The types of the functions are taken from their prototypes."""

    null = None

    def __init__(self):
        lib = ctypes.CDLL(library)
        for result, name, parameters in re.findall(r"RT_API\s+([\w\s]+?[\s*]+)(rt_\w+)\(([^)]*)\);", header):
            function = getattr(lib, name)
            function.restype = self.kind(result)
            function.argtypes = [self.kind(p) for p in parameters.split(",") if p != "void"]
        self.lib = lib

    @staticmethod
    def kind(declared):
        if "char *" in declared and "**" not in declared:
            return ctypes.c_char_p
        if "*" in declared or "_fn" in declared:
            return ctypes.c_void_p
        named = {"rt_status": ctypes.c_int32, "size_t": ctypes.c_size_t, "void": None}
        word = declared.split()[0]
        return named[word] if word in named else getattr(ctypes, f"c_{word.removesuffix('_t')}")

    def cell(self, _):
        return ctypes.c_void_p()

    def to(self, cell):
        return ctypes.byref(cell)

    def at(self, cell):
        return cell.value

    def text(self, value):
        return value and value.decode()


class WithCffi:
    def __init__(self):
        import cffi

        self.ffi = cffi.FFI()
        self.null = self.ffi.NULL
        self.ffi.cdef(re.sub(r'^ *#.*|^extern "C" \{|^\}.*|\bRT_API\b', "", header, flags=re.MULTILINE))
        self.lib = self.ffi.dlopen(library)

    def cell(self, kind):
        return self.ffi.new(kind + " *")

    def to(self, cell):
        return cell

    def at(self, cell):
        return cell[0]

    def text(self, value):
        return self.ffi.string(value).decode() if value else None


rt = {"ctypes": WithCtypes, "cffi": WithCffi}[backend]()
lib, null = rt.lib, rt.null


def fails(label, function, *arguments):
    """Prints how the call failed."""
    cell = rt.cell("rt_error *")
    status = getattr(lib, function)(*arguments, rt.to(cell))
    err = rt.at(cell)
    name = rt.text(lib.rt_status_name(status))
    assert numbers[name] == status == lib.rt_error_code(err), (label, name, status)
    diagnostics = []
    for i in range(lib.rt_error_diag_count(err)):
        parts = lib.rt_error_diag_code(err, i), lib.rt_error_diag_message(err, i), lib.rt_error_diag_detail(err, i)
        diagnostics.append([rt.text(part) for part in parts])
    line = [label, status, rt.text(lib.rt_error_message(err)), lib.rt_error_http_status(err)]
    print(json.dumps([*line, lib.rt_error_os_code(err), lib.rt_error_retry_after_ms(err), diagnostics]))
    lib.rt_free(err)


def made(kind, function, *arguments):
    """A call that works, and what it made."""
    cell = rt.cell(kind + " *")
    assert getattr(lib, function)(*arguments, rt.to(cell), null) == 0, function
    return rt.at(cell)


def transport(registry, **settings):
    options = lib.rt_options_new()
    for key, value in {"environment": 0, "share_tokens": 0, "retries": 0, **settings}.items():
        key = key.replace("_", "-").encode()
        if isinstance(value, int):
            assert lib.rt_options_set_int(options, key, value) == 0, key
        else:
            assert lib.rt_options_set_str(options, key, value) == 0, key
    name = f"{registry}/a/b".encode()
    actions = numbers["RT_PULL"] | numbers["RT_PUSH"] | numbers["RT_DELETE"]
    result = made("rt_transport", "rt_transport_new", name, actions, null, options)
    lib.rt_free(options)
    return result


def out(kind):
    return rt.to(rt.cell(kind + " *"))


free, locked, tls, closed = registries
t = transport(free)
manifest = out("rt_response")
fails("argument", "rt_transport_new", b"r.example/a/b", numbers["RT_CATALOG"], null, null, out("rt_transport"))
fails("syntax", "rt_ref_parse", b"a b", out("rt_ref"))
fails("unsupported", "rt_manifest_delete", t, b"latest", null)
fails("network", "rt_ping", transport(closed), null)
fails("tls", "rt_ping", transport(tls, scheme=b"https"), null)
op = lib.rt_op_new()
assert lib.rt_op_set_timeout_ms(op, 30) == 0
fails("timeout", "rt_manifest_get", t, b"never", op, manifest)
lib.rt_op_cancel(op)
fails("cancelled", "rt_manifest_get", t, b"latest", op, manifest)
fails("auth", "rt_manifest_get", transport(locked), b"latest", null, manifest)
fails("status", "rt_manifest_get", t, b"none", null, manifest)
fails("busy", "rt_manifest_get", t, b"busy", null, manifest)
fails("media type", "rt_manifest_get", t, b"text", null, manifest)
fails("digest", "rt_manifest_get", t, b"sha256:" + b"0" * 64, null, manifest)
fails("limit", "rt_manifest_get", transport(free, max_manifest_bytes=10), b"latest", null, manifest)
fails("io", "rt_blob_save", t, b"sha256:" + b"1" * 64, b"/no/such/folder/blob", null)
fails("protocol", "rt_manifest_get", t, b"garbage", null, manifest)
upload = made("rt_upload", "rt_upload_begin", t, null)
fails("state", "rt_upload_finish", upload, null, null, manifest)
for handle in (upload, op, t):
    lib.rt_free(handle)
