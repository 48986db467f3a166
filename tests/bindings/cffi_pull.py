"""Python with cffi (python3-cffi), which reads the header itself.

    python3 cffi_pull.py LIBRARY NAME TAG BLOB STALLING FILE

ffi.gc ties rt_free to a handle, so nothing has to be given back by hand. cffi lets other Python threads run while a
call waits.
"""
import os
import pathlib
import re
import sys
import threading
import time

from cffi import FFI

library, name, tag, blob, stalling, path = sys.argv[1:]
header = (pathlib.Path(__file__).parents[2] / "include/registry_transport.h").read_text()
ffi = FFI()
# The declarations without the preprocessor's lines, and the constants that are numbers.
ffi.cdef(re.sub(r'^ *#.*|^extern "C" \{|^\}.*|\bRT_API\b', "", header, flags=re.MULTILINE))
ffi.cdef("\n".join(re.findall(r"^#define RT_\w+ \d+$", header, flags=re.MULTILINE)))
rt = ffi.dlopen(library)


def text(pointer):
    return ffi.string(pointer).decode() if pointer else None


def handle(pointer):
    return ffi.gc(pointer, rt.rt_free)


class Error(Exception):
    def __init__(self, err):
        super().__init__(text(rt.rt_error_message(err)))
        self.kind = text(rt.rt_status_name(rt.rt_error_code(err)))
        self.http_status = rt.rt_error_http_status(err)
        self.diagnostics = [
            (text(rt.rt_error_diag_code(err, i)), text(rt.rt_error_diag_message(err, i)))
            for i in range(rt.rt_error_diag_count(err))
        ]


def call(function, *arguments):
    err = ffi.new("rt_error **")
    if function(*arguments, err) != rt.RT_OK:
        raise Error(handle(err[0]))


def made(function, *arguments):
    """A call whose result is a handle, the type of which is that of the function's last argument but one."""
    result = ffi.new(ffi.typeof(function).args[-2])
    call(function, *arguments, result)
    return handle(result[0])


assert rt.rt_abi() == rt.RT_ABI, "another version of the library"
print(text(rt.rt_version()))
creds = handle(rt.rt_creds_basic(os.environ["REGISTRY_USER"].encode(), os.environ["REGISTRY_PASSWORD"].encode()))
options = handle(rt.rt_options_new())
assert rt.rt_options_set_str(options, b"ca-file", os.environ["REGISTRY_CA"].encode()) == rt.RT_OK
assert rt.rt_options_set_str(options, b"scheme", b"https") == rt.RT_OK
transport = made(rt.rt_transport_new, name.encode(), rt.RT_PULL, creds, options)

manifest = made(rt.rt_manifest_get, transport, tag.encode(), ffi.NULL)
data, length = ffi.new("const void **"), ffi.new("size_t *")
call(rt.rt_response_body, manifest, data, length)
print("manifest", text(rt.rt_response_digest(manifest)), text(rt.rt_response_header(manifest, b"content-type")))
print(bytes(ffi.buffer(data[0], length[0])).decode())

tags, item = handle(rt.rt_list_tags(transport)), ffi.new("const char **")
print("tags", end="")
while call(rt.rt_list_next, tags, ffi.NULL, item) or item[0]:
    print("", text(item[0]), end="")
print()

response, buffer, size = made(rt.rt_blob_get, transport, blob.encode(), ffi.NULL), ffi.new("char[65536]"), 0
with open(path, "wb") as file:
    while call(rt.rt_response_read, response, buffer, len(buffer), length) or length[0] > 0:
        size += file.write(ffi.buffer(buffer, length[0]))
print("blob", text(rt.rt_response_digest(response)), size)

try:
    made(rt.rt_manifest_get, transport, b"no-such-tag", ffi.NULL)
except Error as e:
    print("error", e.kind, e.http_status, *e.diagnostics[0])

op, done = handle(rt.rt_op_new()), ffi.new("int64_t *")


def save():
    try:
        call(rt.rt_blob_save, transport, stalling.encode(), path.encode(), op)
    except Error as e:
        print("cancelled", e.kind)


thread = threading.Thread(target=save)
thread.start()
while rt.rt_op_progress(op, done, ffi.NULL) or done[0] == 0:
    time.sleep(0.01)
rt.rt_op_cancel(op)
thread.join()
