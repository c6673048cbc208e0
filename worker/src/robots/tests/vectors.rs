//! What robots.txt files permit: the cases of github.com/google/robotstxt (robots_test.cc) and the examples of RFC 9309.
//!
//! Of Google's, those are left out that ask for what only Google does: `index.html` as another name of its directory, lines
//! cut at 16 KiB, a URL that is empty. `%62%61%7A` is `baz` here, as section 2.2.2 of the RFC has it. A URL that is not
//! percent-encoded cannot be made from our type of URLs.

pub(super) struct Vector {
    pub(super) file: &'static str,
    pub(super) agent: &'static str,
    pub(super) permits: &'static [&'static str],
    pub(super) forbids: &'static [&'static str],
}

const fn vector(
    agent: &'static str,
    file: &'static str,
    permits: &'static [&'static str],
    forbids: &'static [&'static str],
) -> Vector {
    Vector { file, agent, permits, forbids }
}

/// Rules before the first group, groups that share rules, and two groups of one name.
const GROUPS: &str = "allow: /foo/bar/\n\nuser-agent: FooBot\ndisallow: /\nallow: /x/\nuser-agent: BarBot\n\
    disallow: /\nallow: /y/\n\n\nallow: /w/\nuser-agent: BazBot\n\nuser-agent: FooBot\nallow: /z/\ndisallow: /\n";

const UPPER_KEYS: &str = "USER-AGENT: FooBot\nALLOW: /x/\nDISALLOW: /\n";
const LOWER_KEYS: &str = "user-agent: FooBot\nallow: /x/\ndisallow: /\n";
const CAMEL_KEYS: &str = "uSeR-aGeNt: FooBot\nAlLoW: /x/\ndIsAlLoW: /\n";

const UPPER_AGENT: &str = "User-Agent: FOO BAR\nAllow: /x/\nDisallow: /\n";
const LOWER_AGENT: &str = "User-Agent: foo bar\nAllow: /x/\nDisallow: /\n";
const CAMEL_AGENT: &str = "User-Agent: FoO bAr\nAllow: /x/\nDisallow: /\n";

const AGENT_OF_TWO_WORDS: &str = "User-Agent: *\nDisallow: /\nUser-Agent: Foo Bar\nAllow: /x/\nDisallow: /\n";

const GLOBAL_AND_OWN: &str = "user-agent: *\nallow: /\nuser-agent: FooBot\ndisallow: /\n";

pub(super) const GOOGLE_CASES: usize = 141;

pub(super) const GOOGLE: &[Vector] = &[
    // The syntax of a line, with and without its colon.
    vector("FooBot", "user-agent: FooBot\ndisallow: /\n", &[], &["/x/y"]),
    vector("FooBot", "foo: FooBot\nbar: /\n", &["/x/y"], &[]),
    vector("FooBot", "user-agent FooBot\ndisallow /\n", &[], &["/x/y"]),
    vector("", "user-agent: FooBot\ndisallow: /\n", &["/"], &[]),
    vector("FooBot", "", &["/", "/x/y"], &[]),
    vector("FooBot", GROUPS, &["/x/b", "/z/d"], &["/y/c", "/foo/bar/"]),
    vector("BarBot", GROUPS, &["/y/c", "/w/a"], &["/z/d", "/foo/bar/"]),
    vector("BazBot", GROUPS, &["/z/d"], &["/foo/bar/"]),
    // Other keys end no group.
    vector(
        "FooBot",
        "User-agent: BarBot\nSitemap: https://foo.bar/sitemap\nUser-agent: *\nDisallow: /\n",
        &[],
        &["/"],
    ),
    vector(
        "BarBot",
        "User-agent: BarBot\nSitemap: https://foo.bar/sitemap\nUser-agent: *\nDisallow: /\n",
        &[],
        &["/"],
    ),
    vector(
        "FooBot",
        "User-agent: FooBot\nInvalid-Unknown-Line: unknown\nUser-agent: *\nDisallow: /\n",
        &[],
        &["/"],
    ),
    vector(
        "BarBot",
        "User-agent: FooBot\nInvalid-Unknown-Line: unknown\nUser-agent: *\nDisallow: /\n",
        &[],
        &["/"],
    ),
    // The case of keys and of names.
    vector("FooBot", UPPER_KEYS, &["/x/y"], &["/a/b"]),
    vector("FooBot", LOWER_KEYS, &["/x/y"], &["/a/b"]),
    vector("FooBot", CAMEL_KEYS, &["/x/y"], &["/a/b"]),
    vector("Foo", UPPER_AGENT, &["/x/y"], &["/a/b"]),
    vector("Foo", LOWER_AGENT, &["/x/y"], &["/a/b"]),
    vector("Foo", CAMEL_AGENT, &["/x/y"], &["/a/b"]),
    vector("foo", UPPER_AGENT, &["/x/y"], &["/a/b"]),
    vector("foo", LOWER_AGENT, &["/x/y"], &["/a/b"]),
    vector("foo", CAMEL_AGENT, &["/x/y"], &["/a/b"]),
    vector("Foo", AGENT_OF_TWO_WORDS, &["/x/y"], &[]),
    vector("Foo Bar", AGENT_OF_TWO_WORDS, &[], &["/x/y"]),
    // The group for all is for those that no other names.
    vector("FooBot", GLOBAL_AND_OWN, &[], &["/x/y"]),
    vector("BarBot", GLOBAL_AND_OWN, &["/x/y"], &[]),
    vector(
        "QuxBot",
        "user-agent: FooBot\nallow: /\nuser-agent: BarBot\ndisallow: /\nuser-agent: BazBot\ndisallow: /\n",
        &["/x/y"],
        &[],
    ),
    vector(
        "FooBot",
        "User-agent: *\nDisallow: /x/\nUser-agent: FooBot\nDisallow: /y/\n",
        &["/x/page"],
        &["/y/page"],
    ),
    // The case of paths.
    vector("FooBot", "user-agent: FooBot\ndisallow: /x/\n", &[], &["/x/y"]),
    vector("FooBot", "user-agent: FooBot\ndisallow: /X/\n", &["/x/y"], &[]),
    // The longest match.
    vector("FooBot", "user-agent: FooBot\ndisallow: /x/page.html\nallow: /x/\n", &[], &["/x/page.html"]),
    vector("FooBot", "user-agent: FooBot\nallow: /x/page.html\ndisallow: /x/\n", &["/x/page.html"], &["/x/"]),
    vector("FooBot", "user-agent: FooBot\ndisallow: \nallow: \n", &["/x/page.html"], &[]),
    vector("FooBot", "user-agent: FooBot\ndisallow: /\nallow: /\n", &["/x/page.html"], &[]),
    vector("FooBot", "user-agent: FooBot\ndisallow: /x\nallow: /x/\n", &["/x/"], &["/x"]),
    vector(
        "FooBot",
        "user-agent: FooBot\ndisallow: /x/page.html\nallow: /x/page.html\n",
        &["/x/page.html"],
        &[],
    ),
    vector("FooBot", "user-agent: FooBot\nallow: /page\ndisallow: /*.html\n", &["/page"], &["/page.html"]),
    vector(
        "FooBot",
        "user-agent: FooBot\nallow: /x/page.\ndisallow: /*.html\n",
        &["/x/page.html"],
        &["/x/y.html"],
    ),
    // Encodings.
    vector(
        "FooBot",
        "User-agent: FooBot\nDisallow: /\nAllow: /foo/bar?qux=taz&baz=http://foo.bar?tar&par\n",
        &["/foo/bar?qux=taz&baz=http://foo.bar?tar&par"],
        &[],
    ),
    vector(
        "FooBot",
        "User-agent: FooBot\nDisallow: /\nAllow: /foo/bar/\u{30c4}\n",
        &["/foo/bar/%E3%83%84"],
        &[],
    ),
    vector(
        "FooBot",
        "User-agent: FooBot\nDisallow: /\nAllow: /foo/bar/%E3%83%84\n",
        &["/foo/bar/%E3%83%84"],
        &[],
    ),
    vector(
        "FooBot",
        "User-agent: FooBot\nDisallow: /\nAllow: /foo/bar/%62%61%7A\n",
        &["/foo/bar/%62%61%7A"],
        &[],
    ),
    // Special characters.
    vector(
        "FooBot",
        "User-agent: FooBot\nDisallow: /foo/bar/quz\nAllow: /foo/*/qux\n",
        &["/foo/quz", "/foo//quz", "/foo/bax/quz"],
        &["/foo/bar/quz"],
    ),
    vector(
        "FooBot",
        "User-agent: FooBot\nDisallow: /foo/bar$\nAllow: /foo/bar/qux\n",
        &["/foo/bar/qux", "/foo/bar/", "/foo/bar/baz"],
        &["/foo/bar"],
    ),
    vector(
        "FooBot",
        "User-agent: FooBot\n# Disallow: /\nDisallow: /foo/quz#qux\nAllow: /\n",
        &["/foo/bar"],
        &["/foo/quz"],
    ),
    // Beginnings of paths.
    vector(
        "FooBot",
        "user-agent: FooBot\ndisallow: /\nallow: /fish\n",
        &[
            "/fish",
            "/fish.html",
            "/fish/salmon.html",
            "/fishheads",
            "/fishheads/yummy.html",
            "/fish.html?id=anything",
        ],
        &["/bar", "/Fish.asp", "/catfish", "/?id=fish"],
    ),
    vector(
        "FooBot",
        "user-agent: FooBot\ndisallow: /\nallow: /fish*\n",
        &[
            "/fish",
            "/fish.html",
            "/fish/salmon.html",
            "/fishheads",
            "/fishheads/yummy.html",
            "/fish.html?id=anything",
        ],
        &["/bar", "/Fish.bar", "/catfish", "/?id=fish"],
    ),
    vector(
        "FooBot",
        "user-agent: FooBot\ndisallow: /\nallow: /fish/\n",
        &["/fish/", "/fish/salmon", "/fish/?salmon", "/fish/salmon.html", "/fish/?id=anything"],
        &["/bar", "/fish", "/fish.html", "/Fish/Salmon.html"],
    ),
    // Asterisks and dollars.
    vector(
        "FooBot",
        "user-agent: FooBot\ndisallow: /\nallow: /*.php\n",
        &[
            "/filename.php",
            "/folder/filename.php",
            "/folder/filename.php?parameters",
            "//folder/any.php.file.html",
            "/filename.php/",
            "/index?f=filename.php/",
        ],
        &["/bar", "/php/", "/index?php", "/windows.PHP"],
    ),
    vector(
        "FooBot",
        "user-agent: FooBot\ndisallow: /\nallow: /*.php$\n",
        &["/filename.php", "/folder/filename.php"],
        &[
            "/bar",
            "/filename.php?parameters",
            "/filename.php/",
            "/filename.php5",
            "/php/",
            "/filename?php",
            "/aaaphpaaa",
            "//windows.PHP",
        ],
    ),
    vector(
        "FooBot",
        "user-agent: FooBot\ndisallow: /\nallow: /fish*.php\n",
        &["/fish.php", "/fishheads/catfish.php?parameters"],
        &["/bar", "/Fish.PHP"],
    ),
    // Which rule comes first.
    vector("FooBot", "user-agent: FooBot\nallow: /p\ndisallow: /\n", &["/page"], &[]),
    vector("FooBot", "user-agent: FooBot\nallow: /folder\ndisallow: /folder\n", &["/folder/page"], &[]),
    vector("FooBot", "user-agent: FooBot\nallow: /page\ndisallow: /*.htm\n", &[], &["/page.htm"]),
    vector("FooBot", "user-agent: FooBot\nallow: /$\ndisallow: /\n", &["/"], &["/page.html"]),
    // Ends of lines, the last of them missing.
    vector("bar", "User-Agent: foo\nAllow: /some/path\nUser-Agent: bar\n\n\nDisallow: /\n", &[], &["/"]),
    vector(
        "bar",
        "User-Agent: foo\r\nAllow: /some/path\r\nUser-Agent: bar\r\n\r\n\r\nDisallow: /\r\n",
        &[],
        &["/"],
    ),
    vector("bar", "User-Agent: foo\rAllow: /some/path\rUser-Agent: bar\r\r\rDisallow: /\r", &[], &["/"]),
    vector("bar", "User-Agent: foo\nAllow: /some/path\nUser-Agent: bar\n\n\nDisallow: /", &[], &["/"]),
    vector("bar", "User-Agent: foo\nAllow: /some/path\r\nUser-Agent: bar\n\r\n\nDisallow: /", &[], &["/"]),
    vector("foo", "User-Agent: foo\nAllow: /some/path\r\nUser-Agent: bar\n\r\n\nDisallow: /", &["/"], &[]),
    // A byte order mark at the beginning, and one elsewhere, which spoils its line.
    vector("foo", "\u{feff}User-Agent: foo\nDisallow: /AnyValue\n", &["/"], &["/AnyValue"]),
    vector("foo", "User-Agent: foo\n\u{feff}Disallow: /AnyValue\n", &["/", "/AnyValue"], &[]),
];

/// Section 5.1: three groups, one of them for two crawlers, one that allows everything.
const SIMPLE: &str = "User-Agent: *\nDisallow: *.gif$\nDisallow: /example/\nAllow: /publications/\n\n\
    User-Agent: foobot\nDisallow:/\nAllow:/example/page.html\nAllow:/example/allowed.gif\n\n\
    User-Agent: barbot\nUser-Agent: bazbot\nDisallow: /example/page.html\n\nUser-Agent: quxbot\n";

/// Section 5.2.
const LONGEST: &str = "User-Agent: foobot\nAllow: /example/page/\nDisallow: /example/page/disallowed.gif\n";

/// Section 2.2.1: groups of one name are one; so are those for all.
const MERGED: &str = "user-agent: ExampleBot\ndisallow: /foo\ndisallow: /bar\n\n\
    user-agent: ExampleBot\ndisallow: /baz\n";

const NAMED_OR_ALL: &str = "User-Agent: *\nDisallow: /all\n\nUser-Agent: ExampleBot\nDisallow: /own\n";

pub(super) const RFC: &[Vector] = &[
    vector(
        "anybot",
        SIMPLE,
        &["/publications/", "/a.gif?", "/a.gif/b"],
        &["/a.gif", "/example/", "/example/page.html"],
    ),
    vector(
        "foobot",
        SIMPLE,
        &["/example/page.html", "/example/allowed.gif"],
        &["/", "/publications/", "/a.gif"],
    ),
    vector("barbot", SIMPLE, &["/", "/example/", "/a.gif"], &["/example/page.html"]),
    vector("bazbot", SIMPLE, &["/", "/example/", "/a.gif"], &["/example/page.html"]),
    vector("quxbot", SIMPLE, &["/", "/example/page.html", "/a.gif"], &[]),
    vector(
        "foobot",
        LONGEST,
        &["/example/page/", "/example/page/allowed.gif"],
        &["/example/page/disallowed.gif"],
    ),
    vector("examplebot", MERGED, &["/qux"], &["/foo", "/bar", "/baz"]),
    vector("otherbot", MERGED, &["/foo", "/bar", "/baz"], &[]),
    vector("EXAMPLEBOT", NAMED_OR_ALL, &["/all"], &["/own"]),
    vector("otherbot", NAMED_OR_ALL, &["/own"], &["/all"]),
    // Section 2.2.3: a comment, the end of a pattern, any characters.
    vector(
        "examplebot",
        "User-Agent: * # for all\nAllow: /this/path/exactly$\nDisallow: /this/*/exactly\nDisallow: /this/path # here\n",
        &["/this/path/exactly", "/that"],
        &["/this/path/exactly/not", "/this/other/exactly", "/this/path"],
    ),
];
