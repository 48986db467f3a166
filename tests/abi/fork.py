"""multiprocessing with fork: the parent's transport is refused in the workers, their own ones work, and the parent
goes on. Usage: fork.py LIBRARY SERVER"""
import ctypes
import multiprocessing
import sys
import threading

lib = ctypes.CDLL(sys.argv[1])
handle = ctypes.c_void_p
lib.rt_transport_new.argtypes = [ctypes.c_char_p, ctypes.c_uint32, handle, handle, ctypes.POINTER(handle), handle]
lib.rt_req_new.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
lib.rt_req_new.restype = handle
lib.rt_request.argtypes = [handle, handle, handle, ctypes.POINTER(handle), handle]
lib.rt_free.argtypes = [handle]

RT_OK, RT_E_STATE = 0, 15


def make():
    transport = handle()
    name = (sys.argv[2] + "/a/b").encode()
    assert lib.rt_transport_new(name, 1, None, None, ctypes.byref(transport), None) == RT_OK
    return transport


def get(transport):
    request, answer = lib.rt_req_new(b"GET", b"/v2/"), handle()
    status = lib.rt_request(transport, request, None, ctypes.byref(answer), None)
    lib.rt_free(answer)
    lib.rt_free(request)
    return status


def work(_):
    inherited = get(parents)
    own = make()
    status = get(own)
    lib.rt_free(own)
    return inherited, status


parents = make()
assert get(parents) == RT_OK
done = threading.Event()
failed = []


def keep_busy():
    while not done.is_set():
        status = get(parents)
        if status != RT_OK:
            failed.append(status)


threads = [threading.Thread(target=keep_busy) for _ in range(2)]
for thread in threads:
    thread.start()
with multiprocessing.get_context("fork").Pool(4) as pool:
    results = pool.map(work, range(40))
done.set()
for thread in threads:
    thread.join()
assert set(results) == {(RT_E_STATE, RT_OK)}, set(results)
assert not failed, failed
assert get(parents) == RT_OK
lib.rt_free(parents)
print("ok")
