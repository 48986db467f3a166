-- LuaJIT's FFI, which reads the header itself.
--
--   luajit pull.lua LIBRARY NAME TAG BLOB STALLING FILE
--
-- ffi.gc ties rt_free to a handle. Lua has no threads: a call is cancelled between two reads of its answer here, and
-- could be by a progress function or a time limit (rt_op_set_progress, rt_op_set_timeout_ms) while it waits.
local ffi = require("ffi")
local library, name, tag, blob, stalling, path = unpack(arg)

local file = assert(io.open(arg[0]:gsub("[^/]*$", "") .. "../../include/registry_transport.h"))
local header = file:read("*a")
file:close()
for constant, value in header:gmatch("\n#define (RT_%w+) (%d+)\n") do
    ffi.cdef(("static const int %s = %s;"):format(constant, value))
end
ffi.cdef((header:gsub("/%*.-%*/", ""):gsub("\n *#[^\n]*", ""):gsub('extern "C" {', ""):gsub("\n}", ""):gsub("RT_API", "")))
local rt = ffi.load(library)

local function text(pointer)
    return pointer ~= nil and ffi.string(pointer) or nil
end

local function handle(pointer)
    return ffi.gc(pointer, rt.rt_free)
end

local function call(f, ...)
    local arguments = { ... }
    local err = ffi.new("rt_error *[1]")
    arguments[select("#", ...) + 1] = err
    if f(unpack(arguments, 1, select("#", ...) + 1)) ~= rt.RT_OK then
        error(handle(err[0]), 0)
    end
end

-- A call whose result is a handle of this type.
local function made(kind, f, ...)
    local result = ffi.new(kind .. " *[1]")
    local arguments = { ... }
    arguments[select("#", ...) + 1] = result
    call(f, unpack(arguments, 1, select("#", ...) + 1))
    return handle(result[0])
end

local function kind(err)
    return text(rt.rt_status_name(rt.rt_error_code(err)))
end

assert(rt.rt_abi() == rt.RT_ABI, "another version of the library")
print(text(rt.rt_version()))
local creds = handle(rt.rt_creds_basic(os.getenv("REGISTRY_USER"), os.getenv("REGISTRY_PASSWORD")))
local options = handle(rt.rt_options_new())
assert(rt.rt_options_set_str(options, "ca-file", os.getenv("REGISTRY_CA")) == rt.RT_OK)
assert(rt.rt_options_set_str(options, "scheme", "https") == rt.RT_OK)
local transport = made("rt_transport", rt.rt_transport_new, name, rt.RT_PULL, creds, options)

local manifest = made("rt_response", rt.rt_manifest_get, transport, tag, nil)
local data, length = ffi.new("const void *[1]"), ffi.new("size_t[1]")
call(rt.rt_response_body, manifest, data, length)
print("manifest " .. text(rt.rt_response_digest(manifest)) .. " " .. text(rt.rt_response_header(manifest, "content-type")))
print(ffi.string(data[0], length[0]))

local tags, item = handle(rt.rt_list_tags(transport)), ffi.new("const char *[1]")
io.write("tags")
call(rt.rt_list_next, tags, nil, item)
while item[0] ~= nil do
    io.write(" ", text(item[0]))
    call(rt.rt_list_next, tags, nil, item)
end
io.write("\n")

local buffer = ffi.new("char[65536]")
local response, out, size = made("rt_response", rt.rt_blob_get, transport, blob, nil), assert(io.open(path, "wb")), 0
repeat
    call(rt.rt_response_read, response, buffer, 65536, length)
    out:write(ffi.string(buffer, length[0]))
    size = size + tonumber(length[0])
until length[0] == 0
out:close()
print("blob " .. text(rt.rt_response_digest(response)) .. " " .. size)

local ok, err = pcall(made, "rt_response", rt.rt_manifest_get, transport, "no-such-tag", nil)
assert(not ok)
print(("error %s %d %s %s"):format(kind(err), rt.rt_error_http_status(err), text(rt.rt_error_diag_code(err, 0)),
    text(rt.rt_error_diag_message(err, 0))))

local op = handle(rt.rt_op_new())
response = made("rt_response", rt.rt_blob_get, transport, stalling, op)
call(rt.rt_response_read, response, buffer, 65536, length)
assert(length[0] > 0)
rt.rt_op_cancel(op)
ok, err = pcall(call, rt.rt_response_read, response, buffer, 65536, length)
assert(not ok)
print("cancelled " .. kind(err))
