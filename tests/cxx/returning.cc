/* The C++ header where a failure is returned: REGISTRY. Built without exceptions, and as a part of throwing.cc. */
#define REGISTRY_TRANSPORT_NO_EXCEPTIONS
#include <registry_transport.hpp>

#include "check.h"

#include <string>

namespace rt = registry_transport;

static_assert(std::is_same_v<rt::outcome<int>, rt::result<int>>);

int returning(const char *registry);

static void listing(const rt::transport &t)
{
    int count = 0;
    rt::result<rt::list> tags = t.tags();
    CHECK(tags);
    for (const rt::result<std::string_view> &tag : *tags) {
        CHECK(tag && !tag->empty());
        count++;
    }
    CHECK(count == 3);

    /* A failure is the last element. */
    rt::result<rt::request> request = rt::request::make("GET", "./no/list");
    rt::result<rt::pages> pages = t.pages(*request);
    count = 0;
    for (const rt::result<rt::response> &page : *pages) {
        CHECK(!page && page.error().http_status() == 404);
        count++;
    }
    CHECK(count == 1 && !pages->next());
    const rt::result<std::optional<std::string_view>> none = rt::list().next();
    CHECK(!none && none.error().code() == rt::errc::arg);
}

static void lambdas(const rt::transport &t, const std::string &name)
{
    const rt::result<rt::request> hello = rt::request::make("GET", "/v2/hello");
    std::string text;
    CHECK(t.send(*hello)->drain([&](std::string_view piece) { text += piece; }));
    CHECK(text == "hello there");
    const rt::result<void> stopped = t.send(*hello)->drain([](std::string_view) { return false; });
    CHECK(!stopped && stopped.error().code() == rt::errc::cancelled);
    rt::op control;
    CHECK(control.on_progress([](std::int64_t, std::int64_t) { return false; }));
    const rt::result<rt::response> manifest = t.manifest_get("latest", &control);
    CHECK(!manifest && manifest.error().code() == rt::errc::cancelled);

    rt::options alone;
    CHECK(alone.set("share-tokens", false) && !alone.set("tea", "hot"));
    const auto with = [&](auto f) {
        return rt::transport::open(name, rt::actions::pull, *rt::creds::callback(std::move(f)), alone);
    };
    CHECK(with([](auto, auto) { return rt::creds::basic("demo", "demo"); })->ping());
    const rt::result<void> refused = with([](auto, auto) { return rt::creds::basic("a:b", ""); })->ping();
    CHECK(!refused && refused.error().code() == rt::errc::auth);
}

int returning(const char *registry)
{
    const std::string name = std::string(registry) + "/a/b";
    const rt::result<rt::creds> creds = rt::creds::basic("demo", "demo");
    CHECK(creds.has_value());
    rt::result<rt::transport> t = rt::transport::open(name, rt::actions::pull, *creds);
    CHECK(t && t->ping());

    rt::result<rt::response> manifest = t->manifest_get("latest");
    CHECK(manifest && manifest->status() == 200);
    const rt::result<std::string_view> body = manifest->body();
    CHECK(body && body->find("schemaVersion") != std::string_view::npos);
    CHECK(t->manifest_head("latest").value().digest() == manifest->digest());

    const rt::result<rt::response> missing = t->manifest_get("no-such-tag");
    CHECK(!missing && missing.error().code() == rt::errc::status && missing.error().http_status() == 404);
    CHECK(missing.error().diagnostics()[0].code == "MANIFEST_UNKNOWN");
    CHECK(*t->blob_stat("sha256:" + std::string(64, '0')) == std::nullopt);
    CHECK(t->blob_stat("nonsense").value_or(7) == 7);
    CHECK(!rt::ref::parse(std::string_view("ubuntu\0evil", 11)) && rt::ref::parse("ubuntu")->tag() == "latest");

    listing(*t);
    lambdas(*t, name);

    const rt::transport moved = *std::move(t);
    CHECK(moved.ping() && !t->ping() && !*t);
    return 0;
}

#ifndef BOTH
int main(int argc, char **argv)
{
    CHECK(argc == 2 && returning(argv[1]) == 0);
    std::puts("ok");
    return 0;
}
#endif
