# Perl with FFI::Platypus (libffi-platypus-perl).
#
#   perl pull.pl LIBRARY NAME TAG BLOB STALLING FILE
#
# An object whose DESTROY calls rt_free gives a handle back. It belongs to the interpreter that made it: a thread gets
# the pointer alone, so that its copy of the object does not free it a second time.
use strict;
use warnings;
use threads;
use FFI::Platypus 2.00;
use FFI::Platypus::Buffer qw(scalar_to_buffer);
use Time::HiRes qw(sleep);

my ($library, $name, $tag, $blob, $stalling, $path) = @ARGV;
my $ffi = FFI::Platypus->new(api => 2, lib => $library);
for (
    ['rt_abi', [] => 'uint32'],
    ['rt_version', [] => 'string'],
    ['rt_free', ['opaque'] => 'void'],
    ['rt_status_name', ['sint32'] => 'string'],
    ['rt_error_message', ['opaque'] => 'string'],
    ['rt_error_http_status', ['opaque'] => 'sint32'],
    ['rt_error_diag_code', ['opaque', 'size_t'] => 'string'],
    ['rt_error_diag_message', ['opaque', 'size_t'] => 'string'],
    ['rt_creds_basic', ['string', 'string'] => 'opaque'],
    ['rt_options_new', [] => 'opaque'],
    ['rt_options_set_str', ['opaque', 'string', 'string'] => 'sint32'],
    ['rt_transport_new', ['string', 'uint32', 'opaque', 'opaque', 'opaque*', 'opaque*'] => 'sint32'],
    ['rt_manifest_get', ['opaque', 'string', 'opaque', 'opaque*', 'opaque*'] => 'sint32'],
    ['rt_response_body', ['opaque', 'opaque*', 'size_t*', 'opaque*'] => 'sint32'],
    ['rt_response_read', ['opaque', 'opaque', 'size_t', 'size_t*', 'opaque*'] => 'sint32'],
    ['rt_response_digest', ['opaque'] => 'string'],
    ['rt_response_header', ['opaque', 'string'] => 'string'],
    ['rt_list_tags', ['opaque'] => 'opaque'],
    ['rt_list_next', ['opaque', 'opaque', 'opaque*', 'opaque*'] => 'sint32'],
    ['rt_blob_get', ['opaque', 'string', 'opaque', 'opaque*', 'opaque*'] => 'sint32'],
    ['rt_blob_save', ['opaque', 'string', 'string', 'opaque', 'opaque*'] => 'sint32'],
    ['rt_op_new', [] => 'opaque'],
    ['rt_op_cancel', ['opaque'] => 'void'],
    ['rt_op_progress', ['opaque', 'sint64*', 'sint64*'] => 'void'],
) {
    $ffi->attach(@$_);
}

package Handle {
    sub new { my ($class, $pointer) = @_; return bless { pointer => $pointer, thread => threads->tid }, $class }
    sub DESTROY { my $self = shift; main::rt_free($self->{pointer}) if $self->{thread} == threads->tid }
}

# Makes a call with a place for the error behind its arguments; dies of the error as a hash.
sub call {
    my ($f, @arguments) = @_;
    my $status = $f->(@arguments, \my $err);
    return if $status == 0;
    my $owner = Handle->new($err);
    die {
        kind => rt_status_name($status),
        message => rt_error_message($err),
        http_status => rt_error_http_status($err),
        diagnostic => join(' ', rt_error_diag_code($err, 0) // '', rt_error_diag_message($err, 0) // ''),
    };
}

# A call whose last argument but one is where its result goes.
sub made {
    my ($f, @arguments) = @_;
    call($f, @arguments, \my $out);
    return $out;
}

$| = 1;
rt_abi() == 1 or die "another version of the library\n";
print rt_version(), "\n";
my $creds = Handle->new(rt_creds_basic($ENV{REGISTRY_USER}, $ENV{REGISTRY_PASSWORD}));
my $options = Handle->new(rt_options_new());
rt_options_set_str($options->{pointer}, 'ca-file', $ENV{REGISTRY_CA}) == 0 or die "REGISTRY_CA\n";
rt_options_set_str($options->{pointer}, 'scheme', 'https') == 0 or die;
my $owner = Handle->new(made(\&rt_transport_new, $name, 1, $creds->{pointer}, $options->{pointer})); # 1 is RT_PULL
my $transport = $owner->{pointer};

my $manifest = Handle->new(made(\&rt_manifest_get, $transport, $tag, undef));
call(\&rt_response_body, $manifest->{pointer}, \my $data, \my $length);
print 'manifest ', rt_response_digest($manifest->{pointer}), ' ', rt_response_header($manifest->{pointer}, 'content-type'), "\n";
print $ffi->cast('opaque' => "string($length)", $data), "\n";

my $list = Handle->new(rt_list_tags($transport));
print 'tags';
while (defined(my $item = made(\&rt_list_next, $list->{pointer}, undef))) {
    print ' ', $ffi->cast('opaque' => 'string', $item);
}
print "\n";

my $response = Handle->new(made(\&rt_blob_get, $transport, $blob, undef));
my $buffer = "\0" x 65536;
my ($pointer, $capacity) = scalar_to_buffer($buffer);
my $size = 0;
open my $file, '>:raw', $path or die "$path: $!\n";
while (1) {
    call(\&rt_response_read, $response->{pointer}, $pointer, $capacity, \$length);
    last if $length == 0;
    print $file substr($buffer, 0, $length);
    $size += $length;
}
close $file or die "$path: $!\n";
print 'blob ', rt_response_digest($response->{pointer}), " $size\n";

eval { made(\&rt_manifest_get, $transport, 'no-such-tag', undef); 1 }
    or print "error $@->{kind} $@->{http_status} $@->{diagnostic}\n";

my $op = Handle->new(rt_op_new());
my $running = $op->{pointer};
my $thread = threads->create(sub {
    eval { call(\&rt_blob_save, $transport, $stalling, $path, $running); 1 } or print "cancelled $@->{kind}\n";
});
my $done = 0;
while ($done == 0) {
    sleep 0.01;
    rt_op_progress($running, \$done, undef);
}
rt_op_cancel($running);
$thread->join;
