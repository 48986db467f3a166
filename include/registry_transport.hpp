/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/**
 * \file
 * registry-transport for C++17 and later: registry_transport.h with owners, exceptions, ranges and lambdas. Header
 * only; link what the C library needs.
 *
 * registry_transport.h is the manual: what a function does, how it fails, which thread may call it. A class here is a
 * handle there, a member function is the C function of its name, and the rules below are all that is new.
 *
 *  - Owners. A class owns its handle and gives it back with rt_free. It can be moved, not copied. An empty one (made
 *    without arguments, or moved from) may be used: its calls fail with errc::arg, or give 0, -1 or nothing.
 *  - Threads. A const member function may be called by many threads at once, one that is not const by one at a time.
 *  - Text. A std::string_view is copied, with a NUL behind it; one that holds a NUL is refused as text that is not
 *    UTF-8. One without data (std::string_view()) is NULL in C, where that means something. What is returned as
 *    std::string_view or std::optional<std::string_view> lives as long as the object it was asked of.
 *  - Failure. A call that fails throws an error. With REGISTRY_TRANSPORT_NO_EXCEPTIONS defined, or where the compiler
 *    has exceptions turned off, it returns a result instead, much as std::expected. In this header, outcome<T> is T or
 *    result<T>. Parts of a program may differ in this.
 *  - Lambdas. A callback may throw: the exception is kept, the call is stopped, and the exception comes out of it when
 *    C has returned. (A log function cannot stop the call; what it throws comes out of it at its end.)
 *  - Control. Where a call takes a const op *, it may be NULL, and an empty op is none. The op of a list or of pages
 *    must live as long as they are used.
 */
#ifndef REGISTRY_TRANSPORT_HPP
#define REGISTRY_TRANSPORT_HPP

#include "registry_transport.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>

#if !defined(REGISTRY_TRANSPORT_NO_EXCEPTIONS) && !defined(__cpp_exceptions)
#define REGISTRY_TRANSPORT_NO_EXCEPTIONS 1
#endif

namespace registry_transport {

/* The two ways to fail have names of their own, so that they can meet in one program. */
#ifdef REGISTRY_TRANSPORT_NO_EXCEPTIONS
inline namespace returning {
#else
inline namespace throwing {
#endif

/// What kind of failure: the RT_E_ values, which say what can be done about it.
enum class errc : std::int32_t {
    ok = RT_OK,
    arg = RT_E_ARG,
    unsupported = RT_E_UNSUPPORTED,
    syntax = RT_E_SYNTAX,
    network = RT_E_NETWORK,
    tls = RT_E_TLS,
    timeout = RT_E_TIMEOUT,
    cancelled = RT_E_CANCELLED,
    auth = RT_E_AUTH,
    status = RT_E_STATUS,
    media_type = RT_E_MEDIA_TYPE,
    digest = RT_E_DIGEST,
    limit = RT_E_LIMIT,
    io = RT_E_IO,
    protocol = RT_E_PROTOCOL,
    state = RT_E_STATE,
    internal = RT_E_INTERNAL,
    other = RT_E_OTHER
};

/// "RT_E_TIMEOUT" and so on. Static.
inline std::string_view to_string(errc code) noexcept
{
    return rt_status_name(static_cast<rt_status>(code));
}

/// What a transport asks the token service for; combined with |.
enum class actions : std::uint32_t { pull = RT_PULL, push = RT_PUSH, erase = RT_DELETE, catalog = RT_CATALOG };

/// Both.
constexpr actions operator|(actions a, actions b) noexcept
{
    return static_cast<actions>(static_cast<std::uint32_t>(a) | static_cast<std::uint32_t>(b));
}

/// How much a log line matters; a higher one is more talkative.
enum class level : std::int32_t { error = RT_LOG_ERROR, warn = RT_LOG_WARN, info = RT_LOG_INFO, debug = RT_LOG_DEBUG };

/// Whether the library that was loaded fits this header. If not, do not go on.
inline bool abi_matches() noexcept
{
    return rt_abi() == RT_ABI;
}

/// "name/version (tls provider)" of the library that was loaded. Static.
inline std::string_view version() noexcept
{
    return rt_version();
}

namespace detail {

/// Text for C: a copy with a NUL behind it, wiped afterwards since it may be a password.
class text {
public:
    /* A NUL in it would cut it short unnoticed. What is not UTF-8 is refused by the library, by name. */
    explicit text(std::string_view view)
        : copy_(view.find('\0') == std::string_view::npos ? view : std::string_view("\xff")),
          given_(view.data() != nullptr)
    {
    }
    text(const text &) = delete;
    text &operator=(const text &) = delete;
    ~text()
    {
        volatile char *p = copy_.data();
        for (std::size_t i = 0; i < copy_.size(); i++)
            p[i] = '\0';
    }

    const char *get() const noexcept { return given_ ? copy_.c_str() : nullptr; }

private:
    std::string copy_;
    bool given_;
};

/// Text from C, which may be NULL.
inline std::optional<std::string_view> maybe(const char *text)
{
    return text == nullptr ? std::nullopt : std::optional<std::string_view>(text);
}

/// The same where nothing is as good as none.
inline std::string_view plain(const char *text) noexcept
{
    return text == nullptr ? std::string_view() : std::string_view(text);
}

/// A call into C that is running on this thread, and the exception that waits for it to return.
class running {
public:
    running(const running &) = delete;
    running &operator=(const running &) = delete;
#ifdef __cpp_exceptions
    running() noexcept : outer_(innermost()) { innermost() = this; }
    ~running() { innermost() = outer_; }

    /// Keeps the exception being handled for the innermost call, unless it has one.
    static void keep() noexcept
    {
        if (innermost() != nullptr && innermost()->thrown_ == nullptr)
            innermost()->thrown_ = std::current_exception();
    }

    void rethrow()
    {
        if (thrown_ != nullptr)
            std::rethrow_exception(std::exchange(thrown_, nullptr));
    }

private:
    static running *&innermost() noexcept
    {
        thread_local running *call = nullptr;
        return call;
    }

    running *outer_;
    std::exception_ptr thrown_;
#else
    running() noexcept {}
    ~running() {}
    void rethrow() noexcept {}
#endif
};

/// What f returns, or stopped if it throws.
template <class R, class F> R guarded(R stopped, F f) noexcept
{
#ifdef __cpp_exceptions
    try {
        return f();
    } catch (...) {
        running::keep();
        return stopped;
    }
#else
    static_cast<void>(stopped);
    return f();
#endif
}

/// Calls f; false if it returns false or throws. A function that returns nothing never stops a call by itself.
template <class F, class... Arguments> bool goes_on(F &f, Arguments... arguments) noexcept
{
    return guarded(false, [&]() -> bool {
        if constexpr (std::is_void_v<std::invoke_result_t<F &, Arguments...>>) {
            f(arguments...);
            return true;
        } else {
            return static_cast<bool>(f(arguments...));
        }
    });
}

/// Where C keeps a function object: on the heap, until it calls drop.
template <class F> void *keep(F f)
{
    return new F(std::move(f));
}

template <class F> void drop(void *user) noexcept
{
    delete static_cast<F *>(user);
}

template <class F> std::int32_t on_progress(void *user, std::int64_t done, std::int64_t total) noexcept
{
    return goes_on(*static_cast<F *>(user), done, total) ? 0 : 1;
}

template <class F> std::int32_t on_write(void *user, const void *data, std::size_t len) noexcept
{
    return goes_on(*static_cast<F *>(user), std::string_view(static_cast<const char *>(data), len)) ? 0 : 1;
}

template <class F> void on_log(void *user, std::int32_t at, const char *line) noexcept
{
    goes_on(*static_cast<F *>(user), static_cast<level>(at), std::string_view(line));
}

/// A range over what C counts and gives by its index. Lives as long as the object it was asked of.
template <class Owner, class Value, std::size_t (*Count)(const Owner *), Value (*At)(const Owner *, std::size_t)>
class indexed {
public:
    class iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = Value;
        using difference_type = std::ptrdiff_t;
        using pointer = void;
        using reference = Value;

        iterator() noexcept = default;
        iterator(const Owner *owner, std::size_t i) noexcept : owner_(owner), i_(i) {}
        Value operator*() const { return At(owner_, i_); }
        iterator &operator++() noexcept
        {
            ++i_;
            return *this;
        }
        iterator operator++(int) noexcept { return iterator(owner_, i_++); }
        friend bool operator==(const iterator &a, const iterator &b) noexcept { return a.i_ == b.i_; }
        friend bool operator!=(const iterator &a, const iterator &b) noexcept { return a.i_ != b.i_; }

    private:
        const Owner *owner_ = nullptr;
        std::size_t i_ = 0;
    };

    explicit indexed(const Owner *owner) noexcept : owner_(owner) {}
    iterator begin() const noexcept { return iterator(owner_, 0); }
    iterator end() const noexcept { return iterator(owner_, size()); }
    std::size_t size() const noexcept { return Count(owner_); }
    bool empty() const noexcept { return size() == 0; }
    /// The value at i; one of empty texts if there is none.
    Value operator[](std::size_t i) const { return At(owner_, i); }

private:
    const Owner *owner_;
};

} // namespace detail

/// What the registry said about a failure (distribution-spec, "Error Codes").
struct diagnostic {
    std::string_view code;                  ///< "MANIFEST_UNKNOWN", or "UNKNOWN" for a body that was not understood.
    std::optional<std::string_view> message; ///< The registry's message.
    std::optional<std::string_view> detail;  ///< Its detail, as JSON text.
};

/// One header of an answer.
struct header {
    std::string_view name; ///< In lower case.
    std::string_view value;
};

/// What a registry says about request limits, as far as it does.
struct rate_limit {
    std::optional<std::int64_t> limit;               ///< Requests allowed in a window.
    std::optional<std::int64_t> remaining;           ///< Those that are left in it.
    std::optional<std::chrono::milliseconds> window; ///< Its length.
    std::optional<std::chrono::milliseconds> reset;  ///< Until the count begins anew.
};

namespace detail {

template <class T> std::optional<T> known(std::int64_t value)
{
    return value < 0 ? std::nullopt : std::optional<T>(value);
}

template <class Owner>
std::optional<rate_limit> limits(std::int32_t (*ask)(const Owner *, std::int64_t *, std::int64_t *, std::int64_t *,
                                                     std::int64_t *),
                                 const Owner *owner)
{
    using std::chrono::milliseconds;
    std::int64_t limit = -1, remaining = -1, window = -1, reset = -1;
    if (ask(owner, &limit, &remaining, &window, &reset) == 0)
        return std::nullopt;
    return rate_limit{known<std::int64_t>(limit), known<std::int64_t>(remaining), known<milliseconds>(window),
                      known<milliseconds>(reset)};
}

inline diagnostic diagnostic_at(const rt_error *err, std::size_t i)
{
    return {plain(rt_error_diag_code(err, i)), maybe(rt_error_diag_message(err, i)),
            maybe(rt_error_diag_detail(err, i))};
}

inline header header_at(const rt_response *r, std::size_t i)
{
    const char *value = nullptr;
    const char *name = rt_response_header_at(r, i, &value);
    return {plain(name), plain(value)};
}

} // namespace detail

/// Diagnostics of an error, for (auto d : e.diagnostics()).
using diagnostics = detail::indexed<rt_error, diagnostic, rt_error_diag_count, detail::diagnostic_at>;

/// Headers of an answer in order, for (auto [name, value] : r.headers()).
using headers = detail::indexed<rt_response, header, rt_response_header_count, detail::header_at>;

/// A failure, and what is thrown. Copies share what they know; any thread may read it.
class error : public std::exception {
public:
    /// Takes over what a C function stored.
    explicit error(rt_error *details)
        : code_(static_cast<errc>(rt_error_code(details))), details_(details, [](rt_error *e) { rt_free(e); })
    {
    }
    /// A failure of which the code is all that is known, met by what.
    error(errc code, std::string_view what)
        : code_(code), text_(std::make_shared<const std::string>(std::string(what) + ": " + to_string(code).data()))
    {
    }

    errc code() const noexcept { return code_; }

    /// One line for people: what failed, on which host, what to do. No secrets.
    const char *what() const noexcept override
    {
        const char *message = rt_error_message(details_.get());
        return message != nullptr ? message : text_ != nullptr ? text_->c_str() : to_string(code_).data();
    }

    /// HTTP status of the answer, or 0 if there was none.
    int http_status() const noexcept { return rt_error_http_status(details_.get()); }

    /// How long to wait before trying again; nothing if that is pointless.
    std::optional<std::chrono::milliseconds> retry_after() const
    {
        return detail::known<std::chrono::milliseconds>(rt_error_retry_after_ms(details_.get()));
    }

    /// What the refused answer said about request limits, if anything.
    std::optional<registry_transport::rate_limit> rate_limit() const
    {
        return detail::limits<rt_error>(rt_error_rate_limit, details_.get());
    }

    /// The failed system call's errno; false if there was none.
    std::error_code os_code() const noexcept { return {rt_error_os_code(details_.get()), std::system_category()}; }

    registry_transport::diagnostics diagnostics() const & noexcept
    {
        return registry_transport::diagnostics(details_.get());
    }
    registry_transport::diagnostics diagnostics() const && = delete; // it would outlive what it looks at

    /// For C functions; NULL if the code is all that is known.
    const rt_error *get() const noexcept { return details_.get(); }

private:
    errc code_;
    std::shared_ptr<rt_error> details_;
    std::shared_ptr<const std::string> text_;
};

/// A value, or the error why there is none. To ask for the value where there is none throws the error, or ends the
/// program where there are no exceptions.
template <class T> class [[nodiscard]] result {
public:
    using value_type = T;
    using error_type = registry_transport::error;

    result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    result(error_type failure) : state_(std::in_place_index<1>, std::move(failure)) {}

    bool has_value() const noexcept { return state_.index() == 0; }
    explicit operator bool() const noexcept { return has_value(); }

    T &value() & { return need(), *std::get_if<0>(&state_); }
    const T &value() const & { return need(), *std::get_if<0>(&state_); }
    T &&value() && { return need(), std::move(*std::get_if<0>(&state_)); }
    T &operator*() & { return value(); }
    const T &operator*() const & { return value(); }
    T &&operator*() && { return std::move(*this).value(); }
    T *operator->() { return &value(); }
    const T *operator->() const { return &value(); }
    template <class U> T value_or(U &&other) &&
    {
        return has_value() ? std::move(*this).value() : static_cast<T>(std::forward<U>(other));
    }

    /// Why there is no value. Ends the program if there is one.
    const error_type &error() const noexcept
    {
        if (has_value())
            std::abort();
        return *std::get_if<1>(&state_);
    }

private:
    void need() const
    {
        if (!has_value())
#ifdef __cpp_exceptions
            throw error();
#else
            std::abort();
#endif
    }

    std::variant<T, error_type> state_;
};

/// Success, or the error.
template <> class [[nodiscard]] result<void> {
public:
    using value_type = void;
    using error_type = registry_transport::error;

    result() noexcept = default;
    result(error_type failure) : failure_(std::move(failure)) {}

    bool has_value() const noexcept { return !failure_.has_value(); }
    explicit operator bool() const noexcept { return has_value(); }
    void value() const
    {
        if (!has_value())
#ifdef __cpp_exceptions
            throw *failure_;
#else
            std::abort();
#endif
    }
    const error_type &error() const noexcept
    {
        if (has_value())
            std::abort();
        return *failure_;
    }

private:
    std::optional<error_type> failure_;
};

#ifdef REGISTRY_TRANSPORT_NO_EXCEPTIONS
/// What a call that can fail returns: here a result.
template <class T> using outcome = result<T>;
#else
/// What a call that can fail returns: here the value itself; a failure is thrown.
template <class T> using outcome = T;
#endif

namespace detail {

template <class T> outcome<T> fail(error failure)
{
#ifdef REGISTRY_TRANSPORT_NO_EXCEPTIONS
    return failure;
#else
    throw failure;
#endif
}

/// Owns a handle.
template <class C> class owner {
public:
    using c_type = C;

    owner() noexcept = default;
    /// Takes the handle over.
    explicit owner(C *handle) noexcept : handle_(handle) {}

    /// For C functions; it stays owned here.
    C *get() const noexcept { return handle_.get(); }
    /// Gives the handle away; the caller must call rt_free.
    C *release() noexcept { return handle_.release(); }
    explicit operator bool() const noexcept { return handle_ != nullptr; }

private:
    struct give_back {
        void operator()(C *handle) const noexcept { rt_free(handle); }
    };
    std::unique_ptr<C, give_back> handle_;
};

/// Calls f, which takes a place for an rt_error *; on success the outcome is value().
template <class T, class F, class Value> outcome<T> call(F f, Value value)
{
    running here;
    rt_error *stored = nullptr;
    const rt_status status = f(&stored);
    owner<rt_error> details(stored);
    here.rethrow();
    if (status != RT_OK)
        return fail<T>(error(details.release()));
    return value();
}

/// The same for a call without a value.
template <class F> outcome<void> call(F f)
{
    return call<void>(f, []() -> outcome<void> { return outcome<void>(); });
}

/// Calls f, which takes places for a handle and for an rt_error *.
template <class T, class F> outcome<T> make(F f)
{
    T made;
    return call<T>(
        [&](rt_error **err) {
            typename T::c_type *handle = nullptr;
            const rt_status status = f(&handle, err);
            made = T(handle);
            return status;
        },
        [&] { return std::move(made); });
}

/// What a function told that has no rt_error.
inline outcome<void> check(rt_status status, std::string_view what)
{
    if (status != RT_OK)
        return fail<void>(error(static_cast<errc>(status), what));
    return outcome<void>();
}

/// A handle of a function that returns NULL when it refuses its arguments.
template <class T> outcome<T> given(typename T::c_type *handle, std::string_view what)
{
    if (handle == nullptr)
        return fail<T>(error(errc::arg, what));
    return T(handle);
}

/// Iterates over what an object with next() gives, once. An error is the last element where it is not thrown.
template <class Derived, class Item> class single_pass {
public:
    class iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = outcome<Item>;
        using difference_type = std::ptrdiff_t;
        using pointer = value_type *;
        using reference = value_type &;

        iterator() noexcept = default;
        explicit iterator(single_pass *from) : from_(from) { ++*this; }
        reference operator*() const { return *from_->current_; }
        pointer operator->() const { return &*from_->current_; }
        iterator &operator++()
        {
            if (!from_->advance())
                from_ = nullptr;
            return *this;
        }
        void operator++(int) { ++*this; }
        friend bool operator==(const iterator &a, const iterator &b) noexcept { return a.from_ == b.from_; }
        friend bool operator!=(const iterator &a, const iterator &b) noexcept { return a.from_ != b.from_; }

    private:
        single_pass *from_ = nullptr;
    };

    /// Fetches the first element that is left; there is one iteration.
    iterator begin() { return iterator(this); }
    iterator end() noexcept { return iterator(); }

private:
    bool advance()
    {
        current_.reset();
        if (failed_)
            return false;
        auto got = static_cast<Derived *>(this)->next();
#ifdef REGISTRY_TRANSPORT_NO_EXCEPTIONS
        if (!got) {
            failed_ = true;
            current_.emplace(got.error());
            return true;
        }
        std::optional<Item> &item = *got;
#else
        std::optional<Item> &item = got;
#endif
        if (item.has_value())
            current_.emplace(std::move(*item));
        return item.has_value();
    }

    std::optional<outcome<Item>> current_;
    bool failed_ = false;
};

} // namespace detail

/// Whether this build of the library has the feature; see rt_has_feature.
inline bool has_feature(std::string_view name)
{
    return rt_has_feature(detail::text(name).get()) != 0;
}

/// Control of one running call: cancels it, limits its time, tells its progress.
class op : public detail::owner<rt_op> {
public:
    op() noexcept : owner(rt_op_new()) {}
    using owner::owner;

    /// Body bytes moved so far, and in all if that is known.
    struct progress_of {
        std::int64_t done;
        std::optional<std::int64_t> total;
    };

    /// Stops the call, within about 200 ms, and for good. Any thread; async-signal-safe.
    void cancel() const noexcept { rt_op_cancel(get()); }

    /// Limits each later call in all; zero removes the limit.
    outcome<void> set_timeout(std::chrono::milliseconds limit)
    {
        return detail::check(rt_op_set_timeout_ms(get(), limit.count()), "rt_op_set_timeout_ms");
    }

    /// Any thread.
    progress_of progress() const
    {
        std::int64_t done = 0, total = -1;
        rt_op_progress(get(), &done, &total);
        return {done, detail::known<std::int64_t>(total)};
    }

    /// Calls f(std::int64_t done, std::int64_t total) as bytes move, on the thread that runs the call; total is -1
    /// when unknown. If f returns false the call is stopped with errc::cancelled.
    template <class F> outcome<void> on_progress(F f)
    {
        return detail::check(
            rt_op_set_progress(get(), detail::on_progress<F>, detail::keep(std::move(f)), detail::drop<F>),
            "rt_op_set_progress");
    }
    /// Removes it.
    outcome<void> on_progress(std::nullptr_t)
    {
        return detail::check(rt_op_set_progress(get(), nullptr, nullptr, nullptr), "rt_op_set_progress");
    }
};

namespace detail {

inline const rt_op *c(const op *control) noexcept
{
    return control != nullptr ? control->get() : nullptr;
}

} // namespace detail

/// Settings of a transport. README.md lists the keys.
class options : public detail::owner<rt_options> {
public:
    options() noexcept : owner(rt_options_new()) {}
    using owner::owner;

    /// A text option. An unknown key is errc::unsupported, so keys can be tried.
    outcome<void> set(std::string_view key, std::string_view value)
    {
        return check(rt_options_set_str(get(), detail::text(key).get(), detail::text(value).get()));
    }
    /// A number or a switch.
    template <class I, std::enable_if_t<std::is_integral_v<I>, int> = 0> outcome<void> set(std::string_view key, I value)
    {
        return check(rt_options_set_int(get(), detail::text(key).get(), static_cast<std::int64_t>(value)));
    }
    /// A time: one of the keys that end with "-ms".
    outcome<void> set(std::string_view key, std::chrono::milliseconds value) { return set(key, value.count()); }

    /// Calls f(level, std::string_view line), the line without secrets, for lines of this level and below; by several
    /// threads at once where they share the transport.
    template <class F> outcome<void> on_log(level most, F f)
    {
        return detail::check(rt_options_set_log(get(), static_cast<std::int32_t>(most), detail::on_log<F>,
                                                detail::keep(std::move(f)), detail::drop<F>),
                             "rt_options_set_log");
    }

private:
    outcome<void> check(rt_status status) const
    {
        const char *why = rt_options_error(get());
        return detail::check(status, why != nullptr ? why : "options");
    }
};

/// An image reference taken apart. Any thread may read it.
class ref : public detail::owner<rt_ref> {
public:
    using owner::owner;

    /// Takes "[registry/]repository[:tag][@digest]", or a bare registry, apart.
    static outcome<ref> parse(std::string_view text)
    {
        const detail::text t(text);
        return detail::make<ref>([&](rt_ref **out, rt_error **err) { return rt_ref_parse(t.get(), out, err); });
    }

    /// The same for a reference as people type it: short names are looked up as option "registries-conf" says.
    static outcome<ref> resolve(std::string_view text, const options &how = {})
    {
        const detail::text t(text);
        return detail::make<ref>(
            [&](rt_ref **out, rt_error **err) { return rt_ref_resolve(t.get(), how.get(), out, err); });
    }

    std::string_view registry() const noexcept { return detail::plain(rt_ref_registry(get())); }
    std::optional<std::string_view> repository() const { return detail::maybe(rt_ref_repository(get())); }
    std::optional<std::string_view> tag() const { return detail::maybe(rt_ref_tag(get())); }
    std::optional<std::string_view> digest() const { return detail::maybe(rt_ref_digest(get())); }
};

/// Credentials, or a source of them; an empty one is anonymous. Many transports may use one.
class creds : public detail::owner<rt_creds> {
public:
    using owner::owner;

    /// User name and password.
    static outcome<creds> basic(std::string_view user, std::string_view password)
    {
        const detail::text u(user), p(password);
        return detail::given<creds>(rt_creds_basic(u.get(), p.get()), "user name or password");
    }
    /// A registry token sent as it is.
    static outcome<creds> bearer(std::string_view token)
    {
        return detail::given<creds>(rt_creds_bearer(detail::text(token).get()), "token");
    }
    /// A refresh token, traded for access tokens.
    static outcome<creds> refresh(std::string_view token)
    {
        return detail::given<creds>(rt_creds_refresh(detail::text(token).get()), "refresh token");
    }
    /// Docker's config.json and its helpers; without a path, where Docker looks.
    static outcome<creds> docker(std::string_view path = {})
    {
        return detail::given<creds>(rt_creds_docker(detail::text(path).get()), "path");
    }
    /// The auth.json of podman, skopeo and buildah, then Docker's; without a path, where they look.
    static outcome<creds> podman(std::string_view path = {})
    {
        return detail::given<creds>(rt_creds_podman(detail::text(path).get()), "path");
    }
    /// Asks f(std::string_view registry, std::optional<std::string_view> repository) for creds whenever they are
    /// needed. It may return empty ones for anonymous. If it throws, or returns a result with an error, the call ends
    /// (errc::auth).
    template <class F> static outcome<creds> callback(F f)
    {
        return detail::given<creds>(rt_creds_callback(ask<F>, detail::keep(std::move(f)), detail::drop<F>), "callback");
    }

private:
    template <class F>
    static rt_creds *ask(void *user, const char *registry, const char *repository, std::int32_t *fail) noexcept
    {
        *fail = 1;
        return detail::guarded(static_cast<rt_creds *>(nullptr), [&]() -> rt_creds * {
            auto got = (*static_cast<F *>(user))(detail::plain(registry), detail::maybe(repository));
            if constexpr (std::is_same_v<decltype(got), creds>) {
                *fail = 0;
                return got.release();
            } else {
                *fail = got ? 0 : 1;
                return got ? got->release() : nullptr;
            }
        });
    }
};

/// Bytes to send. Many calls may use one; one of functions is used by one call at a time.
class source : public detail::owner<rt_source> {
public:
    using owner::owner;

    /// A copy of bytes.
    static outcome<source> bytes(std::string_view data)
    {
        return detail::given<source>(rt_source_bytes(data.data(), data.size()), "bytes");
    }
    /// A file, opened anew for each attempt.
    static outcome<source> file(std::string_view path)
    {
        return detail::given<source>(rt_source_file(detail::text(path).get()), "path");
    }
    /// read(char *buf, std::size_t cap) fills buf and returns the count, 0 at the end, negative to fail the call
    /// (errc::cancelled). size is -1 when unknown. Without a rewind a request that was begun cannot be sent again.
    template <class Read> static outcome<source> reader(Read read, std::int64_t size = -1)
    {
        return make(parts<Read, std::nullptr_t>{std::move(read), nullptr}, size, nullptr);
    }
    /// The same with rewind(), which goes back to the first byte; false if it cannot.
    template <class Read, class Rewind> static outcome<source> reader(Read read, std::int64_t size, Rewind rewind)
    {
        using both = parts<Read, Rewind>;
        return make(both{std::move(read), std::move(rewind)}, size, [](void *user) noexcept -> std::int32_t {
            return detail::goes_on(static_cast<both *>(user)->rewind) ? 0 : 1;
        });
    }

private:
    template <class Read, class Rewind> struct parts {
        Read read;
        Rewind rewind;
    };

    template <class Parts> static outcome<source> make(Parts functions, std::int64_t size, rt_rewind_fn rewind)
    {
        const rt_read_fn read = [](void *user, void *buf, std::size_t cap) noexcept {
            return detail::guarded(std::int64_t{-1}, [&] {
                return static_cast<std::int64_t>(static_cast<Parts *>(user)->read(static_cast<char *>(buf), cap));
            });
        };
        return detail::given<source>(
            rt_source_reader(read, rewind, size, detail::keep(std::move(functions)), detail::drop<Parts>), "size");
    }
};

/// A request being described; send it with transport::send. Mistakes in it are reported by that.
class request : public detail::owner<rt_req> {
public:
    using owner::owner;

    /// METHOD path; without a method it is GET, or PUT once there is a body.
    static outcome<request> make(std::string_view method, std::string_view path)
    {
        const detail::text m(method), p(path);
        return detail::given<request>(rt_req_new(m.get(), p.get()), "method or path");
    }

    outcome<void> header(std::string_view name, std::string_view value)
    {
        const detail::text n(name), v(value);
        return detail::check(rt_req_header(get(), n.get(), v.get()), "rt_req_header");
    }
    /// Sets the body to a copy of data.
    outcome<void> body(std::string_view data)
    {
        return detail::check(rt_req_body(get(), data.data(), data.size()), "rt_req_body");
    }
    outcome<void> body(const source &data)
    {
        return detail::check(rt_req_source(get(), data.get()), "rt_req_source");
    }
    /// Accepts this HTTP status; repeatable. With none named, 200 to 299 are accepted.
    outcome<void> accept_status(int http_status)
    {
        return detail::check(rt_req_accept_status(get(), http_status), "rt_req_accept_status");
    }
    /// Accepts this media type; repeatable.
    outcome<void> accept_type(std::string_view media_type)
    {
        return detail::check(rt_req_accept_type(get(), detail::text(media_type).get()), "rt_req_accept_type");
    }
};

/// An answer whose body has not been read yet. One thread at a time.
class response : public detail::owner<rt_response> {
public:
    using owner::owner;

    /// HTTP status; -1 of an empty object.
    int status() const noexcept { return rt_response_status(get()); }

    /// Value of the first header of that name, in any case.
    std::optional<std::string_view> header(std::string_view name) const
    {
        return detail::maybe(rt_response_header(get(), detail::text(name).get()));
    }
    registry_transport::headers headers() const & noexcept { return registry_transport::headers(get()); }
    registry_transport::headers headers() const && = delete; // it would outlive what it looks at

    /// Length of the body in bytes if the registry told it.
    std::optional<std::int64_t> length() const { return detail::known<std::int64_t>(rt_response_length(get())); }
    /// What the answer says about request limits, if anything.
    std::optional<registry_transport::rate_limit> rate_limit() const
    {
        return detail::limits<rt_response>(rt_response_rate_limit, get());
    }
    /// Digest of the content, computed from its bytes or, before they are read, told by the registry.
    std::optional<std::string_view> digest() const { return detail::maybe(rt_response_digest(get())); }
    /// What answered, after redirects, without the query.
    std::string_view url() const noexcept { return detail::plain(rt_response_url(get())); }
    /// Host and port of the registry, or of the mirror in its place, that served this.
    std::string_view host() const noexcept { return detail::plain(rt_response_host(get())); }
    /// Whether the credentials were refused and the request was sent without.
    bool is_anonymous() const noexcept { return rt_response_is_anonymous(get()) != 0; }

    /// Reads up to cap bytes; 0 is the end, and only told if the digest is right.
    outcome<std::size_t> read(void *buf, std::size_t cap)
    {
        std::size_t len = 0;
        return detail::call<std::size_t>([&](rt_error **err) { return rt_response_read(get(), buf, cap, &len, err); },
                                         [&] { return len; });
    }
    /// Reads the rest into memory and lends it.
    outcome<std::string_view> body() &
    {
        const void *data = nullptr;
        std::size_t len = 0;
        return detail::call<std::string_view>(
            [&](rt_error **err) { return rt_response_body(get(), &data, &len, err); },
            [&] { return std::string_view(static_cast<const char *>(data), len); });
    }
    outcome<std::string_view> body() && = delete; // it would outlive what it looks at
    /// Passes the rest to f(std::string_view), piece by piece. If f returns false the call is stopped with
    /// errc::cancelled.
    template <class F> outcome<void> drain(F f)
    {
        return detail::call(
            [&](rt_error **err) { return rt_response_drain(get(), detail::on_write<F>, std::addressof(f), err); });
    }
    /// Writes the rest to a new file that appears only if all went well.
    outcome<void> save(std::string_view path)
    {
        const detail::text p(path);
        return detail::call([&](rt_error **err) { return rt_response_save(get(), p.get(), err); });
    }
};

/// The pages of a listing, for (response &page : pages), or with next(). One thread at a time.
class pages : public detail::owner<rt_pages>, public detail::single_pass<pages, response> {
public:
    using owner::owner;
    pages(rt_pages *handle, const op *control) noexcept : owner(handle), control_(control) {}

    /// The next page, or nothing after the last.
    outcome<std::optional<response>> next()
    {
        response page;
        return detail::call<std::optional<response>>(
            [&](rt_error **err) {
                rt_response *out = nullptr;
                const rt_status status = rt_pages_next(get(), detail::c(control_), &out, err);
                page = response(out);
                return status;
            },
            [&] { return page ? std::optional<response>(std::move(page)) : std::nullopt; });
    }

private:
    const op *control_ = nullptr;
};

/// Names, fetched page by page: for (std::string_view tag : t.tags()), or with next(). A name lives until the next is
/// asked for. One thread at a time.
class list : public detail::owner<rt_list>, public detail::single_pass<list, std::string_view> {
public:
    using owner::owner;
    list(rt_list *handle, const op *control) noexcept : owner(handle), control_(control) {}

    /// The next name, or nothing after the last.
    outcome<std::optional<std::string_view>> next()
    {
        const char *name = nullptr;
        return detail::call<std::optional<std::string_view>>(
            [&](rt_error **err) { return rt_list_next(get(), detail::c(control_), &name, err); },
            [&] { return detail::maybe(name); });
    }

private:
    const op *control_ = nullptr;
};

/// A blob open for reading at any offset. Any number of threads.
class blob : public detail::owner<rt_blob> {
public:
    using owner::owner;

    /// In bytes; -1 of an empty object.
    std::int64_t size() const noexcept { return rt_blob_size(get()); }
    /// Reads exactly min(len, size - offset) bytes; the outcome tells how many, 0 at and beyond the end.
    outcome<std::size_t> pread(void *buf, std::size_t len, std::int64_t offset, const op *control = nullptr) const
    {
        std::size_t got = 0;
        return detail::call<std::size_t>(
            [&](rt_error **err) { return rt_blob_pread(get(), buf, len, offset, detail::c(control), &got, err); },
            [&] { return got; });
    }
};

/// An upload that can be interrupted, written down and taken up by another process. One thread at a time.
class upload : public detail::owner<rt_upload> {
public:
    using owner::owner;

    /// Bytes the registry has; -1 of an empty object.
    std::int64_t offset() const noexcept { return rt_upload_offset(get()); }
    /// What transport::upload_resume needs; keep it like a password. Lives until the next call on this object.
    std::string_view state() noexcept { return detail::plain(rt_upload_state(get())); }
    /// Sends what the registry does not have yet. body is the whole blob.
    outcome<void> send(const source &body, const op *control = nullptr)
    {
        return detail::call(
            [&](rt_error **err) { return rt_upload_send(get(), body.get(), detail::c(control), err); });
    }
    /// Commits the upload; without a digest, under the sha256 of what was sent.
    outcome<response> finish(std::string_view digest = {}, const op *control = nullptr)
    {
        const detail::text d(digest);
        return detail::make<response>([&](rt_response **out, rt_error **err) {
            return rt_upload_finish(get(), d.get(), detail::c(control), out, err);
        });
    }
    /// Tells the registry that the upload is given up.
    outcome<void> cancel(const op *control = nullptr)
    {
        return detail::call([&](rt_error **err) { return rt_upload_cancel(get(), detail::c(control), err); });
    }
};

/// What a transport uses, and why, without secrets. Any thread may read it.
class explanation : public detail::owner<rt_explanation> {
public:
    using owner::owner;

    /// Lines for people; their form may change.
    std::string_view text() const noexcept { return detail::plain(rt_explanation_text(get())); }
    /// A JSON object, for programs.
    std::string_view json() const noexcept { return detail::plain(rt_explanation_json(get())); }
};

/// An authenticated connection pool for one registry or repository. Any number of threads.
class transport : public detail::owner<rt_transport> {
public:
    using owner::owner;

    /// Makes a transport for name, "ghcr.io/org/app" or a bare "ghcr.io"; does no network I/O.
    static outcome<transport> open(std::string_view name, actions what = actions::pull, const creds &who = {},
                                   const options &how = {})
    {
        const detail::text n(name);
        return detail::make<transport>([&](rt_transport **out, rt_error **err) {
            return rt_transport_new(n.get(), static_cast<std::uint32_t>(what), who.get(), how.get(), out, err);
        });
    }

    /// Asks the registry whether it is there and gets a token now; a password is checked.
    outcome<void> ping(const op *control = nullptr) const
    {
        return detail::call([&](rt_error **err) { return rt_ping(get(), detail::c(control), err); });
    }
    /// Tells hosts, credentials, token service, proxy and certificates, and why; sends nothing over the network.
    outcome<explanation> explain(const op *control = nullptr) const
    {
        return detail::make<explanation>(
            [&](rt_explanation **out, rt_error **err) { return rt_explain(get(), detail::c(control), out, err); });
    }
    /// Ends every call now running with errc::cancelled and closes the connections. Later calls connect anew.
    void close() const noexcept { rt_transport_close(get()); }

    /// Sends a request and waits for the head of the answer.
    outcome<response> send(const request &r, const op *control = nullptr) const
    {
        return detail::make<response>([&](rt_response **out, rt_error **err) {
            return rt_request(get(), r.get(), detail::c(control), out, err);
        });
    }
    /// A listing whose first page first fetches; control is used by all of it.
    outcome<registry_transport::pages> pages(const request &first, const op *control = nullptr) const
    {
        return listing<registry_transport::pages>(rt_pages_new(get(), first.get()), control, "rt_pages_new");
    }

    /// The repository's tags; control is used by all of the listing, here and below.
    outcome<list> tags(const op *control = nullptr) const
    {
        return listing<list>(rt_list_tags(get()), control, "rt_list_tags");
    }
    /// The registry's repositories, as far as it lists them (actions::catalog).
    outcome<list> repositories(const op *control = nullptr) const
    {
        return listing<list>(rt_list_repositories(get()), control, "rt_list_repositories");
    }
    /// Descriptors, as JSON text, of what refers to the manifest with this digest; of one artifact type, or all.
    outcome<list> referrers(std::string_view digest, std::string_view artifact_type = {},
                            const op *control = nullptr) const
    {
        const detail::text d(digest), a(artifact_type);
        return listing<list>(rt_list_referrers(get(), d.get(), a.get()), control, "digest or artifact type");
    }

    /// Fetches a manifest by tag or digest; its digest is checked before the body can be read.
    outcome<response> manifest_get(std::string_view tag_or_digest, const op *control = nullptr) const
    {
        const detail::text r(tag_or_digest);
        return detail::make<response>([&](rt_response **out, rt_error **err) {
            return rt_manifest_get(get(), r.get(), detail::c(control), out, err);
        });
    }
    /// Stores a manifest under a tag or digest.
    outcome<response> manifest_put(std::string_view tag_or_digest, std::string_view media_type, std::string_view data,
                                   const op *control = nullptr) const
    {
        const detail::text r(tag_or_digest), m(media_type);
        return detail::make<response>([&](rt_response **out, rt_error **err) {
            return rt_manifest_put(get(), r.get(), m.get(), data.data(), data.size(), detail::c(control), out, err);
        });
    }
    /// Asks for a manifest without its content.
    outcome<response> manifest_head(std::string_view tag_or_digest, const op *control = nullptr) const
    {
        const detail::text r(tag_or_digest);
        return detail::make<response>([&](rt_response **out, rt_error **err) {
            return rt_manifest_head(get(), r.get(), detail::c(control), out, err);
        });
    }
    /// Deletes a manifest by digest, or a tag where the registry can (actions::erase).
    outcome<void> manifest_delete(std::string_view tag_or_digest, const op *control = nullptr) const
    {
        const detail::text r(tag_or_digest);
        return detail::call(
            [&](rt_error **err) { return rt_manifest_delete(get(), r.get(), detail::c(control), err); });
    }

    /// How large a blob is in bytes; nothing if it is not there.
    outcome<std::optional<std::int64_t>> blob_stat(std::string_view digest, const op *control = nullptr) const
    {
        const detail::text d(digest);
        std::int64_t size = -1;
        return detail::call<std::optional<std::int64_t>>(
            [&](rt_error **err) { return rt_blob_stat(get(), d.get(), detail::c(control), &size, err); },
            [&] { return detail::known<std::int64_t>(size); });
    }
    /// Fetches a whole blob, resumed if need be, and verified while it is read.
    outcome<response> blob_get(std::string_view digest, const op *control = nullptr) const
    {
        const detail::text d(digest);
        return detail::make<response>([&](rt_response **out, rt_error **err) {
            return rt_blob_get(get(), d.get(), detail::c(control), out, err);
        });
    }
    /// Fetches a blob into a file that appears only when complete and verified.
    outcome<void> blob_save(std::string_view digest, std::string_view path, const op *control = nullptr) const
    {
        const detail::text d(digest), p(path);
        return detail::call(
            [&](rt_error **err) { return rt_blob_save(get(), d.get(), p.get(), detail::c(control), err); });
    }
    /// Opens a blob for reads at any offset.
    outcome<blob> blob_open(std::string_view digest, const op *control = nullptr) const
    {
        const detail::text d(digest);
        return detail::make<blob>([&](rt_blob **out, rt_error **err) {
            return rt_blob_open(get(), d.get(), detail::c(control), out, err);
        });
    }
    /// Uploads a blob unless it is there; without a digest it is computed. mount_from names a repository of the same
    /// registry to take it from if possible.
    outcome<response> blob_put(std::string_view digest, const source &body, std::string_view mount_from = {},
                               const op *control = nullptr) const
    {
        const detail::text d(digest), m(mount_from);
        return detail::make<response>([&](rt_response **out, rt_error **err) {
            return rt_blob_put(get(), d.get(), body.get(), m.get(), detail::c(control), out, err);
        });
    }

    /// Begins an upload.
    outcome<upload> upload_begin(const op *control = nullptr) const
    {
        return detail::make<upload>([&](rt_upload **out, rt_error **err) {
            return rt_upload_begin(get(), detail::c(control), out, err);
        });
    }
    /// Takes up an upload from what upload::state gave.
    outcome<upload> upload_resume(std::string_view state, const op *control = nullptr) const
    {
        const detail::text s(state);
        return detail::make<upload>([&](rt_upload **out, rt_error **err) {
            return rt_upload_resume(get(), s.get(), detail::c(control), out, err);
        });
    }

private:
    template <class T>
    static outcome<T> listing(typename T::c_type *handle, const op *control, std::string_view what)
    {
        T made(handle, control);
        if (!made)
            return detail::fail<T>(error(errc::arg, what));
        return made;
    }
};

/// Copies an image, or an index with all its images, from src to dst. Both must stay open meanwhile.
inline outcome<void> copy(const transport &src, std::string_view reference, const transport &dst,
                          std::string_view dst_reference, const op *control = nullptr)
{
    const detail::text from(reference), to(dst_reference);
    return detail::call([&](rt_error **err) {
        return rt_copy(src.get(), from.get(), dst.get(), to.get(), detail::c(control), err);
    });
}

} // inline namespace
} // namespace registry_transport

#endif /* REGISTRY_TRANSPORT_HPP */
