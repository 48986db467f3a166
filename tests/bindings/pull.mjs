// Node with koffi (npm install koffi).
//
//   NODE_PATH=... node pull.mjs LIBRARY NAME TAG BLOB STALLING FILE
//
// .async() makes a call on a thread of its own, which suits every function here: handles belong to no thread. What is
// used without a callback from the library (read, save, the progress of an op) needs no care at all.
import { createRequire } from 'node:module';
import { closeSync, openSync, writeSync } from 'node:fs';
import { promisify } from 'node:util';

const koffi = createRequire(import.meta.url)('koffi');
const [library, name, tag, blob, stalling, path] = process.argv.slice(2);
koffi.config({ async_stack_size: 1 << 20 }); // TLS takes more stack than koffi sets aside, in a debug build
const lib = koffi.load(library);
const handles = ['blob', 'creds', 'error', 'list', 'op', 'options', 'response', 'transport'];
for (const handle of handles) koffi.opaque(`rt_${handle}`);

const rt = {};
for (const prototype of [
  'uint32_t rt_abi()',
  'const char *rt_version()',
  'void rt_free(void *handle)',
  'const char *rt_status_name(int32_t status)',
  'const char *rt_error_message(const rt_error *err)',
  'int32_t rt_error_http_status(const rt_error *err)',
  'size_t rt_error_diag_count(const rt_error *err)',
  'const char *rt_error_diag_code(const rt_error *err, size_t i)',
  'const char *rt_error_diag_message(const rt_error *err, size_t i)',
  'rt_creds *rt_creds_basic(const char *user, const char *password)',
  'rt_options *rt_options_new()',
  'int32_t rt_options_set_str(rt_options *o, const char *key, const char *value)',
  'int32_t rt_transport_new(const char *name, uint32_t actions, const rt_creds *creds, const rt_options *options, _Out_ rt_transport **out, _Out_ rt_error **err)',
  'int32_t rt_manifest_get(const rt_transport *t, const char *tag, const rt_op *op, _Out_ rt_response **out, _Out_ rt_error **err)',
  'int32_t rt_response_body(rt_response *r, _Out_ const void **data, _Out_ size_t *len, _Out_ rt_error **err)',
  'int32_t rt_response_read(rt_response *r, _Out_ void *buf, size_t cap, _Out_ size_t *len, _Out_ rt_error **err)',
  'const char *rt_response_digest(const rt_response *r)',
  'const char *rt_response_header(const rt_response *r, const char *name)',
  'rt_list *rt_list_tags(const rt_transport *t)',
  'int32_t rt_list_next(rt_list *l, const rt_op *op, _Out_ const char **name, _Out_ rt_error **err)',
  'int32_t rt_blob_get(const rt_transport *t, const char *digest, const rt_op *op, _Out_ rt_response **out, _Out_ rt_error **err)',
  'int32_t rt_blob_save(const rt_transport *t, const char *digest, const char *path, const rt_op *op, _Out_ rt_error **err)',
  'rt_op *rt_op_new()',
  'void rt_op_cancel(const rt_op *op)',
  'void rt_op_progress(const rt_op *op, _Out_ int64_t *done, _Out_ int64_t *total)',
]) {
  rt[/rt_\w+(?=\()/.exec(prototype)[0]] = lib.func(prototype);
}

class RegistryError extends Error {
  constructor(status, err) {
    super(rt.rt_error_message(err));
    this.kind = rt.rt_status_name(status);
    this.httpStatus = rt.rt_error_http_status(err);
    this.diagnostics = Array.from({ length: rt.rt_error_diag_count(err) }, (_, i) =>
      [rt.rt_error_diag_code(err, i), rt.rt_error_diag_message(err, i)]);
    rt.rt_free(err);
  }
}

// Calls f on a thread of its own, with an rt_error ** behind the arguments.
async function call(f, ...args) {
  const err = [null];
  const status = await promisify(f.async.bind(f))(...args, err);
  if (status !== 0) throw new RegistryError(status, err[0]);
}

// A call whose last argument but one is where its result goes.
async function made(f, ...args) {
  const out = [null];
  await call(f, ...args, out);
  return out[0];
}

if (rt.rt_abi() !== 1) throw new Error('another version of the library');
console.log(rt.rt_version());
const creds = rt.rt_creds_basic(process.env.REGISTRY_USER, process.env.REGISTRY_PASSWORD);
const options = rt.rt_options_new();
for (const [key, value] of [['ca-file', process.env.REGISTRY_CA], ['scheme', 'https']]) {
  if (rt.rt_options_set_str(options, key, value) !== 0) throw new Error(key);
}
const transport = await made(rt.rt_transport_new, name, 1, creds, options); // 1 is RT_PULL
rt.rt_free(options);
rt.rt_free(creds);

const manifest = await made(rt.rt_manifest_get, transport, tag, null);
const [data, length] = [[null], [0]];
await call(rt.rt_response_body, manifest, data, length);
console.log('manifest', rt.rt_response_digest(manifest), rt.rt_response_header(manifest, 'content-type'));
console.log(koffi.decode(data[0], 'char', length[0]));
rt.rt_free(manifest);

const [list, tags] = [rt.rt_list_tags(transport), []];
for (let item; (item = await made(rt.rt_list_next, list, null)) !== null;) tags.push(item);
console.log('tags', ...tags);
rt.rt_free(list);

const [response, buffer, file] = [await made(rt.rt_blob_get, transport, blob, null), Buffer.alloc(65536), openSync(path, 'w')];
let size = 0;
while (await call(rt.rt_response_read, response, buffer, buffer.length, length), length[0] > 0) {
  size += writeSync(file, buffer, 0, length[0]);
}
closeSync(file);
console.log('blob', rt.rt_response_digest(response), size);
rt.rt_free(response);

await made(rt.rt_manifest_get, transport, 'no-such-tag', null).catch((e) => {
  console.log('error', e.kind, e.httpStatus, ...e.diagnostics[0]);
});

const op = rt.rt_op_new();
const done = [0];
const timer = setInterval(() => {
  rt.rt_op_progress(op, done, [0]);
  if (done[0] > 0) rt.rt_op_cancel(op);
}, 10);
await call(rt.rt_blob_save, transport, stalling, path, op).catch((e) => console.log('cancelled', e.kind));
clearInterval(timer);
rt.rt_free(op);
rt.rt_free(transport);
