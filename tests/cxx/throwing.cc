/* The C++ header with exceptions, against a registry that wants tokens: REGISTRY STALLING FOLDER, where STALLING is
 * the digest of a blob of a/b that stops half-way. */
#include <registry_transport.hpp>

#include "check.h"

#include <algorithm>
#include <cerrno>
#include <string>
#include <thread>
#include <vector>
#if __cplusplus >= 202002L
#include <ranges>
#endif

namespace rt = registry_transport;
using namespace std::string_literals;
using namespace std::string_view_literals;
using std::chrono::milliseconds;

#ifdef BOTH
int returning(const char *registry); /* the other way to fail, in the same program */
#endif

static_assert(std::is_nothrow_move_constructible_v<rt::transport> && !std::is_copy_constructible_v<rt::transport>);
static_assert(std::is_nothrow_move_constructible_v<rt::list> && std::is_copy_constructible_v<rt::error>);
static_assert(std::is_base_of_v<std::exception, rt::error>);
static_assert(std::is_same_v<rt::outcome<int>, int>);
#if __cplusplus >= 202002L
static_assert(std::ranges::input_range<rt::list> && std::ranges::input_range<rt::pages>);
static_assert(std::ranges::input_range<rt::headers> && std::ranges::input_range<rt::diagnostics>);
#endif

/* The code of the error that f throws; ok if it throws none. */
template <class F> static rt::errc code_of(F f)
{
    try {
        f();
    } catch (const rt::error &e) {
        CHECK(e.what()[0] != '\0');
        return e.code();
    }
    return rt::errc::ok;
}

/* An exception of the program's own, and the one of it that f throws. */
struct own {
    int number;
};

template <class F> static int number_of(F f)
{
    try {
        f();
    } catch (const own &e) {
        return e.number;
    }
    return 0;
}

/* Counts its copies that are left, to see that what a lambda holds is given back. */
using counted = std::shared_ptr<int>;

static std::string hello(const rt::transport &t, const rt::op *control = nullptr)
{
    rt::response r = t.send(rt::request::make("GET", "/v2/hello"), control);
    return std::string(r.body());
}

static void values(const std::string &folder)
{
    CHECK(rt::abi_matches() && rt::version().substr(0, 19) == "registry-transport/");
    CHECK(rt::has_feature("tls") && !rt::has_feature("tea") && !rt::has_feature("tls\0x"sv));
    CHECK(rt::to_string(rt::errc::timeout) == "RT_E_TIMEOUT");
    CHECK(rt::to_string(static_cast<rt::errc>(77)) == "RT_E_OTHER");
    CHECK((rt::actions::pull | rt::actions::erase) == static_cast<rt::actions>(5));

    const rt::ref ref = rt::ref::parse("ghcr.io/org/app:1.2");
    CHECK(ref.registry() == "ghcr.io" && ref.repository() == "org/app" && ref.tag() == "1.2" && !ref.digest());
    CHECK(!rt::ref::parse("localhost:5000").repository());
    CHECK(rt::ref::resolve("ubuntu").repository() == "library/ubuntu");
    rt::options aliases;
    aliases.set("registries-conf", folder + "/registries.conf");
    CHECK(rt::ref::resolve("tea:1", aliases).registry() == "tea.example");
    CHECK(code_of([] { rt::ref::parse("a b"); }) == rt::errc::syntax);
    /* A NUL cuts nothing off, and a view needs none behind it. */
    CHECK(code_of([] { rt::ref::parse("ubuntu\0evil"sv); }) == rt::errc::arg);
    CHECK(rt::ref::parse("ubuntu:rolling"sv.substr(0, 6)).tag() == "latest");

    rt::options o;
    o.set("scheme", "http");
    o.set("user-agent", "test/1"s);
    o.set("environment", false);
    o.set("retries", 0);
    o.set("max-body-bytes", std::int64_t{1} << 40);
    o.set("connect-timeout-ms", std::chrono::seconds(2));
    CHECK(code_of([&] { o.set("tea", "hot"); }) == rt::errc::unsupported);
    CHECK(code_of([&] { o.set("retries", "three"); }) == rt::errc::arg);
    CHECK(code_of([&] { o.set("retries", -1); }) == rt::errc::arg);
    CHECK(code_of([] { rt::options(nullptr).set("retries", 1); }) == rt::errc::arg);
    try {
        o.set("tea", 1);
        CHECK(false);
    } catch (const rt::error &e) {
        const std::string what = e.what();
        CHECK(what.find("tea") < what.find(": RT_E_UNSUPPORTED") && e.get() == nullptr);
        CHECK(e.http_status() == 0 && !e.os_code() && !e.retry_after() && e.diagnostics().empty() && !e.rate_limit());
    }

    CHECK(code_of([] { rt::creds::basic("a:b", "c"); }) == rt::errc::arg);
    CHECK(code_of([] { rt::creds::basic("demo\0x"sv, "c"); }) == rt::errc::arg);
    CHECK(code_of([] { rt::creds::bearer("white space"); }) == rt::errc::arg);
    CHECK(code_of([] { rt::creds::refresh(""); }) == rt::errc::arg);
    CHECK(rt::creds::bearer("abc") && rt::creds::refresh("abc") && rt::creds::docker() && rt::creds::podman("/nowhere"));
    CHECK(code_of([] { rt::source::file("\xff"); }) == rt::errc::arg);
    CHECK(code_of([] { rt::source::reader([](char *, std::size_t) { return 0; }, -2); }) == rt::errc::arg);
    CHECK(code_of([] { rt::transport::open("a b"); }) == rt::errc::syntax);
    CHECK(code_of([] { rt::transport::open("ghcr.io/a/b", rt::actions::catalog); }) == rt::errc::arg);

    CHECK(rt::result<int>(7).value() == 7);
    CHECK(code_of([] { *rt::result<int>(rt::error(rt::errc::limit, "too many")); }) == rt::errc::limit);
    CHECK(code_of([] { rt::result<void>(rt::error(rt::errc::io, "x")).value(); }) == rt::errc::io);
}

static void pulling(const rt::transport &t, const std::string &registry, const std::string &folder)
{
    t.ping();
    const rt::explanation why = t.explain();
    CHECK(why.text().find(registry) != std::string_view::npos && why.json().substr(0, 1) == "{");
    CHECK(rt::explanation().text() == "" && code_of([] { rt::transport().explain(); }) == rt::errc::arg);
    rt::response manifest = t.manifest_get("latest");
    const std::string text(manifest.body()), digest(manifest.digest().value());
    CHECK(manifest && manifest.status() == 200 && manifest.length() == static_cast<std::int64_t>(text.size()));
    CHECK(manifest.header("CONTENT-type") == RT_MEDIA_TYPE_OCI_MANIFEST && !manifest.header("x-tea"));
    CHECK(manifest.url() == "http://" + registry + "/v2/a/b/manifests/latest" && !manifest.is_anonymous());
    CHECK(manifest.host() == registry);
    std::size_t seen = 0;
    for (auto [name, value] : manifest.headers())
        seen += name == "docker-content-digest" && value == digest;
    CHECK(seen == 1 && manifest.headers().size() > 3 && !manifest.headers().empty());
    CHECK(manifest.headers()[0].name != "" && manifest.headers()[1000].name == "");
    const auto head = t.manifest_head(digest);
    CHECK(head.digest() == digest);

    /* The last digest of the manifest is that of a layer. */
    const std::string layer = text.substr(text.rfind("sha256:"), 71);
    const std::int64_t size = t.blob_stat(layer).value();
    CHECK(!t.blob_stat("sha256:" + std::string(64, '0')));
    rt::response blob = t.blob_get(layer);
    std::string read, drained;
    char buffer[1000];
    while (const std::size_t n = blob.read(buffer, sizeof buffer))
        read.append(buffer, n);
    CHECK(static_cast<std::int64_t>(read.size()) == size);
    blob = t.blob_get(layer);
    blob.drain([&](std::string_view piece) { drained += piece; });
    CHECK(drained == read);
    t.blob_get(layer).save(folder + "/saved");
    t.blob_save(layer, folder + "/blob");
    const rt::blob open = t.blob_open(layer);
    CHECK(open.size() == size && open.pread(buffer, 10, 512) == 10 && read.compare(512, 10, buffer, 10) == 0);
    CHECK(open.pread(buffer, 10, size) == 0);

    std::vector<std::string> tags;
    for (const std::string_view tag : t.tags())
        tags.emplace_back(tag);
    CHECK(tags == (std::vector<std::string>{"latest", "one", "two"}));
    rt::list again = t.tags();
    CHECK(std::distance(again.begin(), again.end()) == 3 && !again.next());
    rt::list by_hand = t.tags();
    CHECK(by_hand.next() == "latest" && *by_hand.begin() == "one");
    int pages = 0;
    for (rt::response &page : t.pages(rt::request::make("GET", "./tags/list?n=1")))
        pages += page.body().find("tags") != std::string_view::npos;
    CHECK(pages == 3);
    const rt::transport all = rt::transport::open(registry, rt::actions::catalog, rt::creds::basic("demo", "demo"));
    for (const std::string_view name : all.repositories())
        CHECK(name == "a/b" || name == "c/d");
    CHECK(code_of([&] { t.referrers("nonsense"); }) == rt::errc::arg);
    for (const std::string_view descriptor : t.referrers(digest, "application/x-tea"))
        CHECK(descriptor.find("sha256:") != std::string_view::npos && ++seen > 0);
    CHECK(seen == 2);
}

static void pushing(const rt::transport &t, const std::string &registry, const std::string &folder)
{
    const rt::response bytes = t.blob_put({}, rt::source::bytes("some bytes"));
    const std::string digest(bytes.digest().value());
    CHECK(t.blob_stat(digest) == 10);
    CHECK(code_of([&] { t.blob_put(digest, rt::source::bytes("same bytes")); }) == rt::errc::ok); /* it is there */
    CHECK(code_of([&] { t.blob_put(digest, rt::source::bytes("more bytes than it has")); }) == rt::errc::digest);
    CHECK(t.blob_put({}, rt::source::file(folder + "/blob"), "a/b").digest().has_value());

    std::size_t at = 0, rewinds = 0;
    const std::string data(100000, 'x');
    const rt::source reader = rt::source::reader(
        [&](char *buf, std::size_t cap) {
            const std::size_t n = data.copy(buf, cap, at);
            at += n;
            return n;
        },
        static_cast<std::int64_t>(data.size()),
        [&] {
            at = 0;
            rewinds++;
        });
    rt::upload upload = t.upload_begin();
    CHECK(upload.offset() == 0);
    upload.send(reader);
    CHECK(upload.offset() == 100000);
    const rt::response done = upload.finish();
    const std::string large(done.digest().value());
    CHECK(t.blob_stat(large) == 100000);
    rt::upload first = t.upload_begin();
    first.send(reader);
    rt::upload second = t.upload_resume(std::string(first.state()));
    CHECK(second.offset() == 100000 && second.finish(large).digest() == large && rewinds > 0);
    CHECK(code_of([&] { t.upload_resume("nonsense"); }) == rt::errc::syntax);
    rt::upload given_up = t.upload_begin();
    given_up.cancel();

    rt::request put = rt::request::make({}, "./manifests/plain");
    put.header("Content-Type", RT_MEDIA_TYPE_OCI_MANIFEST);
    put.body("{\"schemaVersion\":2,\"mediaType\":\"" RT_MEDIA_TYPE_OCI_MANIFEST "\"}");
    put.accept_status(201);
    CHECK(t.send(put).status() == 201);
    put.body(rt::source::bytes("{}"));
    put.accept_type("text/plain");
    CHECK(code_of([&] { put.accept_status(7); }) == rt::errc::arg);
    CHECK(code_of([&] { put.header("Host", "x"); t.send(put); }) == rt::errc::arg);

    const std::string_view manifest = "{\"schemaVersion\":2}";
    const std::string stored(t.manifest_put("three", RT_MEDIA_TYPE_OCI_MANIFEST, manifest).digest().value());
    t.manifest_delete(stored);
    t.manifest_delete("plain");
    CHECK(code_of([&] { t.manifest_head(stored); }) == rt::errc::status);

    const rt::transport other = rt::transport::open(registry + "/c/d", rt::actions::pull | rt::actions::push,
                                                    rt::creds::basic("demo", "demo"));
    rt::copy(t, "latest", other, "copied");
    CHECK(other.manifest_head("copied").digest() == t.manifest_head("latest").digest());
}

static void failures(const rt::transport &t, const std::string &registry, const std::string &stalling,
                     const std::string &folder)
{
    try {
        t.manifest_get("no-such-tag");
        CHECK(false);
    } catch (const std::exception &e) {
        const rt::error kept = dynamic_cast<const rt::error &>(e); /* a copy shares what it knows */
        CHECK(kept.code() == rt::errc::status && kept.http_status() == 404 && !kept.retry_after());
        CHECK(kept.diagnostics().size() == 1 && kept.get() != nullptr);
        for (const rt::diagnostic d : kept.diagnostics())
            CHECK(d.code == "MANIFEST_UNKNOWN" && d.message == "manifest unknown" && !d.detail);
        rt::error from = kept;
        const rt::error to = std::move(from);
        CHECK(to.what() == std::string(e.what()) && to.what() != std::string(from.what()));
    }
    try {
        rt::options o;
        o.set("retries", 0);
        rt::transport::open(registry + "/a/b", rt::actions::pull, {}, o).send(rt::request::make("GET", "/v2/busy"));
        CHECK(false);
    } catch (const rt::error &e) {
        CHECK(e.http_status() == 503 && e.retry_after() == std::chrono::seconds(7));
        CHECK(e.rate_limit() && e.rate_limit()->limit == 100 && e.rate_limit()->remaining == 0);
    }
    const rt::response limited = t.send(rt::request::make("GET", "/v2/hello"));
    CHECK(limited.rate_limit() && limited.rate_limit()->remaining == 76 && !t.manifest_head("latest").rate_limit());
    CHECK(limited.rate_limit()->window == std::chrono::hours(6) && !limited.rate_limit()->reset);
    try {
        t.blob_save(stalling, folder + "/no/such/folder");
        CHECK(false);
    } catch (const rt::error &e) {
        CHECK(e.code() == rt::errc::io && e.os_code() == std::errc::no_such_file_or_directory);
    }
    /* One that a C function stored. */
    rt_error *raw = nullptr;
    rt_response *out = nullptr;
    CHECK(rt_manifest_get(t.get(), "no-such-tag", nullptr, &out, &raw) == RT_E_STATUS);
    CHECK(rt::error(raw).http_status() == 404);

    /* Moved-from and empty objects. */
    rt::transport from = rt::transport::open(registry + "/a/b"), to = std::move(from);
    CHECK(!from && to && from.get() == nullptr);
    CHECK(code_of([&] { from.ping(); }) == rt::errc::arg);
    CHECK(code_of([&] { from.manifest_get("latest"); }) == rt::errc::arg);
    CHECK(code_of([&] { from.tags(); }) == rt::errc::arg);
    CHECK(code_of([&] { rt::list().next(); }) == rt::errc::arg);
    CHECK(code_of([&] { for (auto &page : rt::pages()) page.status(); }) == rt::errc::arg);
    from.close();
    rt::response none;
    CHECK(none.status() == -1 && !none.header("a") && none.headers().empty() && !none.length() && !none.digest());
    CHECK(none.url() == "" && !none.is_anonymous() && code_of([&] { none.body(); }) == rt::errc::arg);
    CHECK(code_of([&] { none.read(nullptr, 0); }) == rt::errc::arg && code_of([&] { none.save("x"); }) == rt::errc::arg);
    rt::upload no_upload;
    CHECK(no_upload.offset() == -1 && no_upload.state() == "" && rt::blob().size() == -1);
    CHECK(code_of([&] { no_upload.cancel(); }) == rt::errc::arg && rt::ref().registry() == "");
    rt::op moved, control = std::move(moved);
    moved.cancel();
    CHECK(moved.progress().done == 0 && !moved.progress().total);
    CHECK(hello(t, &moved) == "hello there"); /* no control */
    rt::transport raw_owner(to.release());
    CHECK(!to && raw_owner);
}

/* What lambdas throw comes out of the call, and stops it. */
static void lambdas(const rt::transport &t, const std::string &registry, const std::string &stalling)
{
    const counted count = std::make_shared<int>(0);
    rt::op control;
    control.on_progress([count](std::int64_t done, std::int64_t total) { CHECK(done <= total || total == -1); ++*count; });
    CHECK(hello(t, &control) == "hello there" && *count > 0 && count.use_count() == 2);
    CHECK(control.progress().done == 11 && control.progress().total == 11);
    control.on_progress([count](std::int64_t, std::int64_t) -> bool { throw own{1}; });
    CHECK(number_of([&] { hello(t, &control); }) == 1 && count.use_count() == 2);
    control.on_progress([](std::int64_t, std::int64_t) { return false; });
    CHECK(count.use_count() == 1 && code_of([&] { hello(t, &control); }) == rt::errc::cancelled);
    control.on_progress(nullptr);
    CHECK(hello(t, &control) == "hello there");
    CHECK(number_of([&] { rt::op().on_progress([count](auto, auto) { throw own{2}; }); }) == 0 && count.use_count() == 1);

    const auto get = [&] { return t.send(rt::request::make("GET", "/v2/hello")); };
    CHECK(number_of([&] { get().drain([](std::string_view) { throw own{3}; }); }) == 3);
    CHECK(code_of([&] { get().drain([](std::string_view) { return false; }); }) == rt::errc::cancelled);
    /* An error of the library passes through a lambda, and through two calls. */
    CHECK(code_of([&] { get().drain([&](std::string_view) { t.manifest_get("no-such-tag"); }); }) == rt::errc::status);
    CHECK(number_of([&] {
              get().drain([&](std::string_view) { get().drain([](std::string_view) { throw own{4}; }); });
          }) == 4);
    /* One that is caught within stays there. */
    get().drain([&](std::string_view) {
        CHECK(number_of([&] { get().drain([](std::string_view) { throw own{5}; }); }) == 5);
    });

    CHECK(number_of([&] {
              t.blob_put({}, rt::source::reader([count](char *, std::size_t) -> std::int64_t { throw own{6}; }, 10));
          }) == 6);
    CHECK(count.use_count() == 1);
    CHECK(code_of([&] { t.blob_put({}, rt::source::reader([](char *, std::size_t) { return -1; })); })
          == rt::errc::cancelled);

    int asked = 0;
    const auto with = [&](auto f, const rt::options &o) {
        return rt::transport::open(registry + "/a/b", rt::actions::pull, rt::creds::callback(std::move(f)), o);
    };
    rt::options alone;
    alone.set("share-tokens", false);
    CHECK(hello(with(
              [&, count](std::string_view host, std::optional<std::string_view> repository) {
                  CHECK(host == registry && repository == "a/b" && ++asked > 0);
                  return rt::creds::basic("demo", "demo");
              },
              alone))
          == "hello there");
    CHECK(asked == 1 && count.use_count() == 1);
    CHECK(number_of([&] { hello(with([](auto, auto) -> rt::creds { throw own{7}; }, alone)); }) == 7);
    CHECK(hello(with([](auto, auto) { return rt::creds(); }, alone)) == "hello there"); /* anonymous */
    CHECK(code_of([&] {
              hello(with([](auto, auto) { return rt::result<rt::creds>(rt::error(rt::errc::io, "no")); }, alone));
          }) == rt::errc::auth);

    std::vector<std::string> lines;
    rt::options logged;
    logged.on_log(rt::level::debug, [&, count](rt::level at, std::string_view line) {
        CHECK(at >= rt::level::error && at <= rt::level::debug);
        lines.emplace_back(line);
        if (line.find("no-such-tag") != std::string_view::npos)
            throw own{8};
    });
    {
        const rt::transport talking = rt::transport::open(registry + "/a/b", rt::actions::pull,
                                                          rt::creds::basic("demo", "demo"), logged);
        logged = rt::options();
        CHECK(hello(talking) == "hello there" && !lines.empty() && count.use_count() == 2);
        /* It cannot stop the call, but hides how it ended. */
        CHECK(number_of([&] { talking.manifest_get("no-such-tag"); }) == 8);
    }
    CHECK(count.use_count() == 1);

    /* What is made by a call that ends so is given back: the leak check looks. */
    rt::options throwing;
    throwing.on_log(rt::level::debug, [](rt::level, std::string_view) { throw own{9}; });
    const rt::transport broken = rt::transport::open(registry + "/a/b", rt::actions::pull,
                                                     rt::creds::basic("demo", "demo"), throwing);
    CHECK(number_of([&] { broken.manifest_get("latest"); }) == 9);

    rt::op limited;
    limited.set_timeout(milliseconds(50));
    CHECK(code_of([&] { t.blob_get(stalling, &limited).drain([](std::string_view) {}); }) == rt::errc::timeout);
    CHECK(code_of([&] { limited.set_timeout(milliseconds(-1)); }) == rt::errc::arg);
}

/* Each thread gets its own exceptions, and another thread cancels. */
static void threads(const rt::transport &t, const std::string &stalling)
{
    std::vector<std::thread> threads;
    for (int i = 1; i <= 8; i++)
        threads.emplace_back([&t, i] {
            for (int round = 0; round < 5; round++)
                CHECK(number_of([&] {
                          rt::response r = t.send(rt::request::make("GET", "/v2/hello"));
                          r.drain([&](std::string_view) {
                              if (i % 2 == 0)
                                  throw own{i};
                          });
                      }) == (i % 2 == 0 ? i : 0));
        });
    for (std::thread &thread : threads)
        thread.join();

    const auto stopped = [&](const rt::op &control, auto stop) {
        rt::errc code = rt::errc::ok;
        std::thread waiting([&] { code = code_of([&] { t.blob_get(stalling, &control).drain([](std::string_view) {}); }); });
        while (control.progress().done == 0)
            std::this_thread::yield();
        stop();
        waiting.join();
        return code;
    };
    const rt::op first, second;
    CHECK(stopped(first, [&] { first.cancel(); }) == rt::errc::cancelled);
    CHECK(stopped(second, [&] { t.close(); }) == rt::errc::cancelled);
    CHECK(hello(t) == "hello there");
}

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    const std::string registry = argv[1], stalling = argv[2], folder = argv[3];
    rt::options options;
    options.set("environment", false);
    const rt::transport t = rt::transport::open(registry + "/a/b", rt::actions::pull | rt::actions::push | rt::actions::erase,
                                                rt::creds::basic("demo", "demo"), options);
    values(folder);
    pulling(t, registry, folder);
    failures(t, registry, stalling, folder);
    lambdas(t, registry, stalling);
    threads(t, stalling);
    pushing(t, registry, folder);
#ifdef BOTH
    CHECK(returning(argv[1]) == 0);
#endif
    std::puts("ok");
    return 0;
}
