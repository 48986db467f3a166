<?php
// PHP with FFI (php-cli), which reads the header itself.
//
//   php -d ffi.enable=1 pull.php LIBRARY NAME TAG BLOB STALLING FILE
//
// PHP frees nothing of C's by itself: an object that calls rt_free when it goes does. PHP has no threads: a call is
// cancelled between two reads of its answer here, and could be by a time limit (rt_op_set_timeout_ms) while it waits.
[, $library, $name, $tag, $blob, $stalling, $path] = $argv;

$header = file_get_contents(__DIR__ . '/../../include/registry_transport.h');
preg_match_all('/^#define (RT_\w+) (\d+)$/m', $header, $constants, PREG_SET_ORDER);
foreach ($constants as [, $constant, $value]) {
    define($constant, (int)$value);
}
$rt = FFI::cdef(preg_replace('~/\*.*?\*/|^ *#.*?$|^extern "C" \{|^\}|\bRT_API\b~ms', '', $header), $library);

final class Handle
{
    public function __construct(public ?FFI\CData $p) {}

    public function __destruct()
    {
        $GLOBALS['rt']->rt_free($this->p);
    }
}

final class RegistryError extends Exception
{
    public string $kind;
    public int $httpStatus;
    public array $diagnostics = [];

    public function __construct(int $status, Handle $err)
    {
        global $rt;
        parent::__construct(text($rt->rt_error_message($err->p)));
        $this->kind = text($rt->rt_status_name($status));
        $this->httpStatus = $rt->rt_error_http_status($err->p);
        for ($i = 0; $i < $rt->rt_error_diag_count($err->p); $i++) {
            $this->diagnostics[] = text($rt->rt_error_diag_code($err->p, $i)) . ' ' . text($rt->rt_error_diag_message($err->p, $i));
        }
    }
}

// PHP makes a string of a const char * that is returned, and leaves one that is stored as it is.
function text(string|FFI\CData|null $t): string
{
    return $t === null ? '' : (is_string($t) ? $t : FFI::string($t));
}

function call(string $function, ...$arguments): void
{
    global $rt;
    $err = $rt->new('rt_error *');
    $status = $rt->$function(...$arguments, ...[FFI::addr($err)]);
    if ($status !== RT_OK) {
        throw new RegistryError($status, new Handle($err));
    }
}

/** A call whose result is a handle of this type. */
function made(string $type, string $function, ...$arguments): Handle
{
    $out = $GLOBALS['rt']->new("$type *");
    call($function, ...$arguments, ...[FFI::addr($out)]);
    return new Handle($out);
}

$rt->rt_abi() === RT_ABI or exit("another version of the library\n");
echo $rt->rt_version(), "\n";
$creds = new Handle($rt->rt_creds_basic(getenv('REGISTRY_USER'), getenv('REGISTRY_PASSWORD')));
$options = new Handle($rt->rt_options_new());
foreach (['ca-file' => getenv('REGISTRY_CA'), 'scheme' => 'https'] as $key => $value) {
    $rt->rt_options_set_str($options->p, $key, $value) === RT_OK or exit("option $key\n");
}
$transport = made('rt_transport', 'rt_transport_new', $name, RT_PULL, $creds->p, $options->p);

$manifest = made('rt_response', 'rt_manifest_get', $transport->p, $tag, null);
[$data, $length] = [$rt->new('const void *'), $rt->new('size_t')];
call('rt_response_body', $manifest->p, FFI::addr($data), FFI::addr($length));
echo 'manifest ', $rt->rt_response_digest($manifest->p), ' ', $rt->rt_response_header($manifest->p, 'content-type'), "\n";
echo FFI::string($data, $length->cdata), "\n";

[$list, $item] = [new Handle($rt->rt_list_tags($transport->p)), $rt->new('const char *')];
echo 'tags';
while (true) {
    call('rt_list_next', $list->p, null, FFI::addr($item));
    if (FFI::isNull($item)) {
        break;
    }
    echo ' ', text($item);
}
echo "\n";

[$response, $buffer, $file] = [made('rt_response', 'rt_blob_get', $transport->p, $blob, null), $rt->new('char[65536]'), fopen($path, 'wb')];
$size = 0;
do {
    call('rt_response_read', $response->p, $buffer, 65536, FFI::addr($length));
    $size += fwrite($file, FFI::string($buffer, $length->cdata));
} while ($length->cdata > 0);
fclose($file);
echo 'blob ', $rt->rt_response_digest($response->p), " $size\n";

try {
    made('rt_response', 'rt_manifest_get', $transport->p, 'no-such-tag', null);
} catch (RegistryError $e) {
    echo "error $e->kind $e->httpStatus {$e->diagnostics[0]}\n";
}

$op = new Handle($rt->rt_op_new());
$response = made('rt_response', 'rt_blob_get', $transport->p, $stalling, $op->p);
call('rt_response_read', $response->p, $buffer, 65536, FFI::addr($length));
$rt->rt_op_cancel($op->p);
try {
    call('rt_response_read', $response->p, $buffer, 65536, FFI::addr($length));
} catch (RegistryError $e) {
    echo "cancelled $e->kind\n";
}
