import com.sun.jna.Library;
import com.sun.jna.Native;
import com.sun.jna.Pointer;
import com.sun.jna.ptr.LongByReference;
import com.sun.jna.ptr.PointerByReference;
import java.io.FileOutputStream;
import java.lang.ref.Cleaner;
import java.util.Map;

/**
 * Java with JNA (libjna-java).
 *
 * <pre>java -cp jna.jar Pull.java LIBRARY NAME TAG BLOB STALLING FILE</pre>
 *
 * A Cleaner gives back handles that are reachable no more. size_t is a long, as on all 64-bit systems. Other threads
 * go on while a call waits; a handle that is const in the header may be shared by them.
 */
public class Pull {
    public interface RT extends Library {
        int rt_abi();
        String rt_version();
        void rt_free(Pointer handle);
        String rt_status_name(int status);
        String rt_error_message(Pointer err);
        int rt_error_http_status(Pointer err);
        String rt_error_diag_code(Pointer err, long i);
        String rt_error_diag_message(Pointer err, long i);
        Pointer rt_creds_basic(String user, String password);
        Pointer rt_options_new();
        int rt_options_set_str(Pointer o, String key, String value);
        int rt_transport_new(String name, int actions, Pointer creds, Pointer options, PointerByReference out, PointerByReference err);
        int rt_manifest_get(Pointer t, String tag, Pointer op, PointerByReference out, PointerByReference err);
        int rt_response_body(Pointer r, PointerByReference data, LongByReference len, PointerByReference err);
        int rt_response_read(Pointer r, byte[] buf, long cap, LongByReference len, PointerByReference err);
        String rt_response_digest(Pointer r);
        String rt_response_header(Pointer r, String name);
        Pointer rt_list_tags(Pointer t);
        int rt_list_next(Pointer l, Pointer op, PointerByReference name, PointerByReference err);
        int rt_blob_get(Pointer t, String digest, Pointer op, PointerByReference out, PointerByReference err);
        int rt_blob_save(Pointer t, String digest, String path, Pointer op, PointerByReference err);
        Pointer rt_op_new();
        void rt_op_cancel(Pointer op);
        void rt_op_progress(Pointer op, LongByReference done, LongByReference total);
    }

    static final int RT_ABI = 1, RT_PULL = 1;
    static final Cleaner cleaner = Cleaner.create();
    static RT rt;

    /** Owns what C gave; close() gives it back now, the garbage collector some day. */
    static class Handle implements AutoCloseable {
        final Pointer p;
        private final Cleaner.Cleanable cleanable;

        Handle(Pointer p) {
            this.p = p;
            cleanable = cleaner.register(this, () -> rt.rt_free(p));
        }

        public void close() {
            cleanable.clean();
        }
    }

    static class RegistryException extends Exception {
        final String kind, code, text;
        final int httpStatus;

        RegistryException(int status, Handle err) {
            super(rt.rt_error_message(err.p));
            kind = rt.rt_status_name(status);
            httpStatus = rt.rt_error_http_status(err.p);
            code = rt.rt_error_diag_code(err.p, 0);
            text = rt.rt_error_diag_message(err.p, 0);
        }
    }

    interface Call {
        int run(PointerByReference out, PointerByReference err);
    }

    /** Makes a call and returns what it put into out. */
    static Pointer call(Call call) throws RegistryException {
        PointerByReference out = new PointerByReference(), err = new PointerByReference();
        int status = call.run(out, err);
        if (status != 0)
            try (Handle e = new Handle(err.getValue())) {
                throw new RegistryException(status, e);
            }
        return out.getValue();
    }

    static Handle transport(String name) throws RegistryException {
        Map<String, String> env = System.getenv();
        try (Handle creds = new Handle(rt.rt_creds_basic(env.get("REGISTRY_USER"), env.get("REGISTRY_PASSWORD")));
             Handle options = new Handle(rt.rt_options_new())) {
            if (rt.rt_options_set_str(options.p, "ca-file", env.get("REGISTRY_CA")) != 0
                    || rt.rt_options_set_str(options.p, "scheme", "https") != 0)
                throw new IllegalArgumentException("REGISTRY_CA");
            return new Handle(call((out, err) -> rt.rt_transport_new(name, RT_PULL, creds.p, options.p, out, err)));
        }
    }

    public static void main(String[] args) throws Exception {
        String name = args[1], tag = args[2], blob = args[3], stalling = args[4], path = args[5];
        rt = Native.load(args[0], RT.class, Map.of(Library.OPTION_STRING_ENCODING, "UTF-8"));
        if (rt.rt_abi() != RT_ABI)
            throw new IllegalStateException("another version of the library");
        System.out.println(rt.rt_version());
        Handle transport = transport(name);
        LongByReference length = new LongByReference();

        try (Handle manifest = new Handle(call((out, err) -> rt.rt_manifest_get(transport.p, tag, null, out, err)))) {
            Pointer data = call((out, err) -> rt.rt_response_body(manifest.p, out, length, err));
            System.out.println("manifest " + rt.rt_response_digest(manifest.p) + " "
                    + rt.rt_response_header(manifest.p, "content-type"));
            System.out.println(new String(data.getByteArray(0, (int) length.getValue()), "UTF-8"));
        }

        StringBuilder tags = new StringBuilder("tags");
        try (Handle list = new Handle(rt.rt_list_tags(transport.p))) {
            for (Pointer p; (p = call((out, err) -> rt.rt_list_next(list.p, null, out, err))) != null;)
                tags.append(' ').append(p.getString(0, "UTF-8"));
        }
        System.out.println(tags);

        byte[] buffer = new byte[65536];
        long size = 0;
        try (Handle response = new Handle(call((out, err) -> rt.rt_blob_get(transport.p, blob, null, out, err)));
             FileOutputStream file = new FileOutputStream(path)) {
            do {
                call((out, err) -> rt.rt_response_read(response.p, buffer, buffer.length, length, err));
                file.write(buffer, 0, (int) length.getValue());
                size += length.getValue();
            } while (length.getValue() > 0);
            System.out.println("blob " + rt.rt_response_digest(response.p) + " " + size);
        }

        try {
            call((out, err) -> rt.rt_manifest_get(transport.p, "no-such-tag", null, out, err));
        } catch (RegistryException e) {
            System.out.println("error " + e.kind + " " + e.httpStatus + " " + e.code + " " + e.text);
        }

        Handle op = new Handle(rt.rt_op_new());
        Thread thread = new Thread(() -> {
            try {
                call((out, err) -> rt.rt_blob_save(transport.p, stalling, path, op.p, err));
            } catch (RegistryException e) {
                System.out.println("cancelled " + e.kind);
            }
        });
        thread.start();
        for (LongByReference done = new LongByReference(); done.getValue() == 0; rt.rt_op_progress(op.p, done, null))
            Thread.sleep(10);
        rt.rt_op_cancel(op.p);
        thread.join();
        op.close();
        transport.close();
    }
}
