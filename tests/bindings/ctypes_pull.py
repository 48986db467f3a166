"""Python with ctypes, which comes with it.

    python3 ctypes_pull.py LIBRARY NAME TAG BLOB STALLING FILE

Every function has its types told: without them ctypes cuts pointers to 32 bits. A handle is a c_void_p, and rt_free
gives back any of them. ctypes lets other Python threads run while a call waits.
"""
import os
import sys
import threading
import time
from ctypes import CDLL, byref, c_char_p, c_int32, c_int64, c_size_t, c_uint32, c_void_p, create_string_buffer, string_at
from ctypes import POINTER as P

library, name, tag, blob, stalling, path = sys.argv[1:]
rt = CDLL(library)
text, handle, out, err_out = c_char_p, c_void_p, P(c_void_p), P(c_void_p)
for function, result, *arguments in (
    ("rt_abi", c_uint32),
    ("rt_version", text),
    ("rt_free", None, handle),
    ("rt_status_name", text, c_int32),
    ("rt_error_message", text, handle),
    ("rt_error_http_status", c_int32, handle),
    ("rt_error_diag_code", text, handle, c_size_t),
    ("rt_error_diag_message", text, handle, c_size_t),
    ("rt_creds_basic", handle, text, text),
    ("rt_options_new", handle),
    ("rt_options_set_str", c_int32, handle, text, text),
    ("rt_transport_new", c_int32, text, c_uint32, handle, handle, out, err_out),
    ("rt_manifest_get", c_int32, handle, text, handle, out, err_out),
    ("rt_response_body", c_int32, handle, P(c_void_p), P(c_size_t), err_out),
    ("rt_response_read", c_int32, handle, handle, c_size_t, P(c_size_t), err_out),
    ("rt_response_digest", text, handle),
    ("rt_response_header", text, handle, text),
    ("rt_list_tags", handle, handle),
    ("rt_list_next", c_int32, handle, handle, P(text), err_out),
    ("rt_blob_get", c_int32, handle, text, handle, out, err_out),
    ("rt_blob_save", c_int32, handle, text, text, handle, err_out),
    ("rt_op_new", handle),
    ("rt_op_cancel", None, handle),
    ("rt_op_progress", None, handle, P(c_int64), P(c_int64)),
):
    getattr(rt, function).restype = result
    getattr(rt, function).argtypes = arguments


class Error(Exception):
    def __init__(self, status, err):
        super().__init__(rt.rt_error_message(err).decode())
        self.kind = rt.rt_status_name(status).decode()
        self.http_status = rt.rt_error_http_status(err)
        diagnostic = rt.rt_error_diag_code(err, 0), rt.rt_error_diag_message(err, 0)
        self.diagnostic = [t.decode() for t in diagnostic if t is not None]
        rt.rt_free(err)


def call(function, *arguments):
    err = c_void_p()
    status = function(*arguments, byref(err))
    if status != 0:
        raise Error(status, err)


def made(function, *arguments):
    """A call whose result is a handle."""
    result = c_void_p()
    call(function, *arguments, byref(result))
    return result


assert rt.rt_abi() == 1, "another version of the library"
print(rt.rt_version().decode())
creds = rt.rt_creds_basic(os.environ["REGISTRY_USER"].encode(), os.environ["REGISTRY_PASSWORD"].encode())
options = rt.rt_options_new()
assert rt.rt_options_set_str(options, b"ca-file", os.environ["REGISTRY_CA"].encode()) == 0
assert rt.rt_options_set_str(options, b"scheme", b"https") == 0
transport = made(rt.rt_transport_new, name.encode(), 1, creds, options)  # 1 is RT_PULL
rt.rt_free(options)
rt.rt_free(creds)

manifest = made(rt.rt_manifest_get, transport, tag.encode(), None)
data, length = c_void_p(), c_size_t()
call(rt.rt_response_body, manifest, byref(data), byref(length))
print("manifest", rt.rt_response_digest(manifest).decode(), rt.rt_response_header(manifest, b"content-type").decode())
print(string_at(data, length.value).decode())  # a copy: the bytes are lent by the response
rt.rt_free(manifest)

tags, item = rt.rt_list_tags(transport), c_char_p()
print("tags", end="")
while call(rt.rt_list_next, tags, None, byref(item)) or item.value is not None:
    print("", item.value.decode(), end="")
print()
rt.rt_free(tags)

response, buffer, size = made(rt.rt_blob_get, transport, blob.encode(), None), create_string_buffer(65536), 0
with open(path, "wb") as file:
    while call(rt.rt_response_read, response, buffer, 65536, byref(length)) or length.value > 0:
        size += file.write(memoryview(buffer)[: length.value])
print("blob", rt.rt_response_digest(response).decode(), size)
rt.rt_free(response)

try:
    made(rt.rt_manifest_get, transport, b"no-such-tag", None)
except Error as e:
    print("error", e.kind, e.http_status, *e.diagnostic)

op, done = rt.rt_op_new(), c_int64()


def save():
    try:
        call(rt.rt_blob_save, transport, stalling.encode(), path.encode(), op)
    except Error as e:
        print("cancelled", e.kind)


thread = threading.Thread(target=save)
thread.start()
while rt.rt_op_progress(op, byref(done), None) or done.value == 0:
    time.sleep(0.01)
rt.rt_op_cancel(op)
thread.join()
rt.rt_free(op)
rt.rt_free(transport)
