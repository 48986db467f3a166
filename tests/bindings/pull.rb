# Ruby with Fiddle, which comes with it and reads the prototypes of the header.
#
#   ruby pull.rb LIBRARY NAME TAG BLOB STALLING FILE
#
# Fiddle gives the interpreter's lock away during a call, so that other threads run. A handle with rt_free as its
# function to free it is given back by the garbage collector.
require 'fiddle/import'

LIBRARY, NAME, TAG, BLOB, STALLING, PATH = ARGV
HEADER = File.read(File.join(__dir__, '../../include/registry_transport.h'))

module RT
  extend Fiddle::Importer
  dlload LIBRARY
  typealias 'rt_status', 'int32_t'
  HEADER.scan(/\(\*(rt_\w+_fn)\)/) { |(name)| typealias name, 'void *' }
  HEADER.scan(/^RT_API\s+([^;]+);/) { |(prototype)| extern prototype.gsub(/\s+/, ' ') }
  FREE = Fiddle::Function.new(handler['rt_free'], [Fiddle::TYPE_VOIDP], Fiddle::TYPE_VOID)

  class Error < StandardError
    attr_reader :kind, :http_status, :diagnostics

    def initialize(err)
      super(RT.rt_error_message(err).to_s)
      @kind = RT.rt_status_name(RT.rt_error_code(err)).to_s
      @http_status = RT.rt_error_http_status(err)
      @diagnostics = (0...RT.rt_error_diag_count(err)).map do |i|
        [RT.rt_error_diag_code(err, i), RT.rt_error_diag_message(err, i)].reject(&:null?).map(&:to_s)
      end
    end
  end

  def self.handle(pointer) = Fiddle::Pointer.new(pointer.to_i, 0, FREE)
  def self.out = Fiddle::Pointer.malloc(8, Fiddle::RUBY_FREE)

  def self.call(function, *arguments)
    err = out
    status = send(function, *arguments, err)
    raise Error, handle(err.ptr) unless status.zero?
  end

  # A call whose result is a handle.
  def self.made(function, *arguments)
    result = out
    call(function, *arguments, result)
    handle(result.ptr)
  end
end

raise 'another version of the library' unless RT.rt_abi == HEADER[/RT_ABI (\d+)/, 1].to_i
puts RT.rt_version
options = RT.handle(RT.rt_options_new)
{ 'ca-file' => ENV['REGISTRY_CA'], 'scheme' => 'https' }.each do |key, value|
  raise key unless RT.rt_options_set_str(options, key, value).zero?
end
creds = RT.handle(RT.rt_creds_basic(ENV['REGISTRY_USER'], ENV['REGISTRY_PASSWORD']))
transport = RT.made(:rt_transport_new, NAME, 1, creds, options) # 1 is RT_PULL

data, length = RT.out, RT.out
size = -> { length[0, 8].unpack1('J') }
manifest = RT.made(:rt_manifest_get, transport, TAG, nil)
RT.call(:rt_response_body, manifest, data, length)
puts "manifest #{RT.rt_response_digest(manifest)} #{RT.rt_response_header(manifest, 'content-type')}"
puts data.ptr[0, size.call]

tags, item = RT.handle(RT.rt_list_tags(transport)), RT.out
print 'tags'
loop do
  RT.call(:rt_list_next, tags, nil, item)
  break if item.ptr.null?
  print ' ', item.ptr.to_s
end
puts

response, buffer, total = RT.made(:rt_blob_get, transport, BLOB, nil), Fiddle::Pointer.malloc(65_536, Fiddle::RUBY_FREE), 0
File.open(PATH, 'wb') do |file|
  loop do
    RT.call(:rt_response_read, response, buffer, 65_536, length)
    break if size.call.zero?
    total += file.write(buffer[0, size.call])
  end
end
puts "blob #{RT.rt_response_digest(response)} #{total}"

begin
  RT.made(:rt_manifest_get, transport, 'no-such-tag', nil)
rescue RT::Error => e
  puts "error #{e.kind} #{e.http_status} #{e.diagnostics.first.join(' ')}"
end

op = RT.handle(RT.rt_op_new)
thread = Thread.new do
  RT.call(:rt_blob_save, transport, STALLING, PATH, op)
rescue RT::Error => e
  puts "cancelled #{e.kind}"
end
done = RT.out
loop do
  RT.rt_op_progress(op, done, nil)
  break if done[0, 8].unpack1('q') > 0
  sleep 0.01
end
RT.rt_op_cancel(op)
thread.join
