//! Why a run, a document or a due time ended as it did: one CamelCase word that rows, statuses, events and figures
//! share and programs may rely on. docs/status.md says of each what to do.

/// The run succeeded, and a document differs from what was stored of it before.
pub const CHANGED: &str = "Changed";
/// The run succeeded, and every document is as it was.
pub const UNCHANGED: &str = "Unchanged";

/// The run succeeded: stored artifacts were handed on to be extracted again.
pub const BACKFILLED: &str = "Backfilled";
/// The run made no progress, and its event was sent again.
pub const RESTARTED: &str = "Restarted";
/// The run made no progress for too long, though its event was sent again.
pub const STUCK: &str = "Stuck";

/// The subscription or its source is suspended.
pub const SUSPENDED: &str = "Suspended";
/// The due time was too long ago.
pub const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";
/// A later due time is run instead, or the schedule was changed.
pub const SUPERSEDED: &str = "Superseded";
/// The run before it was still active.
pub const OVERLAP: &str = "Overlap";
/// The next run was due, and `concurrencyPolicy` is `Replace`.
pub const REPLACED: &str = "Replaced";

/// The source fails, and its scheduled runs are held back.
pub const SOURCE_FAILING: &str = "SourceFailing";

/// The subscription was deleted while the run was active.
pub const SUBSCRIPTION_DELETED: &str = "SubscriptionDeleted";
/// The source was suspended after the run was made.
pub const SOURCE_SUSPENDED: &str = "SourceSuspended";
/// The handler panicked, or the event could not be read.
pub const HANDLER_FAILED: &str = "HandlerFailed";
/// An event could not be written.
pub const EVENT_NOT_WRITTEN: &str = "EventNotWritten";
/// The catalog has no such run.
pub const RUN_NOT_FOUND: &str = "RunNotFound";
/// The run has no such document.
pub const DOCUMENT_NOT_FOUND: &str = "DocumentNotFound";
/// The catalog did not answer.
pub const CATALOG_UNAVAILABLE: &str = "CatalogUnavailable";
/// The object store did not take the bytes.
pub const BLOB_NOT_STORED: &str = "BlobNotStored";
/// A header's value is in a Secret that is not there.
pub const SECRET_NOT_FOUND: &str = "SecretNotFound";
/// A header's value is in a Secret that has no such key.
pub const SECRET_KEY_NOT_FOUND: &str = "SecretKeyNotFound";
/// A header's value is in a Secret that workers may not read.
pub const SECRET_FORBIDDEN: &str = "SecretForbidden";
/// A header's value is in a Secret that the API server does not give just now.
pub const SECRET_UNAVAILABLE: &str = "SecretUnavailable";
/// A header of the source cannot be sent.
pub const INVALID_HEADER: &str = "InvalidHeader";

/// The URL cannot be fetched.
pub const INVALID_URL: &str = "InvalidUrl";
/// Neither http nor https.
pub const SCHEME_NOT_ALLOWED: &str = "SchemeNotAllowed";
/// The address is closed to workers.
pub const ADDRESS_NOT_ALLOWED: &str = "AddressNotAllowed";
/// The host has no address.
pub const HOST_NOT_FOUND: &str = "HostNotFound";
/// The name servers did not answer, or not properly.
pub const DNS_FAILED: &str = "DnsFailed";
/// No connection was made.
pub const CONNECT_FAILED: &str = "ConnectFailed";
/// No secure connection was made.
pub const TLS_FAILED: &str = "TlsFailed";
/// No usable answer came.
pub const REQUEST_FAILED: &str = "RequestFailed";
/// It took too long.
pub const TIMEOUT: &str = "Timeout";
/// Redirects without an end in sight.
pub const TOO_MANY_REDIRECTS: &str = "TooManyRedirects";
/// A redirect to a URL that was asked before.
pub const REDIRECT_LOOP: &str = "RedirectLoop";
/// The headers of the answer are more, or longer, than are read.
pub const HEADERS_TOO_LARGE: &str = "HeadersTooLarge";
/// The site answered with a status that is no success.
pub const HTTP_STATUS: &str = "HttpStatus";
/// The body is larger than `fetch.maxBytes`.
pub const TOO_LARGE: &str = "TooLarge";
/// The connection ended before the body did.
pub const BODY_TRUNCATED: &str = "BodyTruncated";
/// The body is not compressed the way its headers say.
pub const DECOMPRESSION_FAILED: &str = "DecompressionFailed";
/// The body is compressed in a way that was not asked for.
pub const UNKNOWN_ENCODING: &str = "UnknownEncoding";
/// The body could not be kept on the worker's disk.
pub const SPOOL_FAILED: &str = "SpoolFailed";
/// The site's robots.txt asks not to fetch the document.
pub const ROBOTS_DISALLOWED: &str = "RobotsDisallowed";
/// The site's robots.txt cannot be read, so that nothing is fetched from it yet.
pub const ROBOTS_UNREACHABLE: &str = "RobotsUnreachable";
/// `follow.links` matches nothing on the page.
pub const FOLLOW_MATCHED_NOTHING: &str = "FollowMatchedNothing";
/// The page, feed or sitemap cannot be read as one.
pub const UNREADABLE_LIST: &str = "UnreadableList";
/// The page's elements are nested too deep.
pub const TOO_DEEP: &str = "TooDeep";
/// The object store did not give the bytes of a list back.
pub const BLOB_UNREADABLE: &str = "BlobUnreadable";
/// A document's bytes cannot be read as what they are.
pub const UNREADABLE_DOCUMENT: &str = "UnreadableDocument";
/// No text is taken from documents of this kind.
pub const UNSUPPORTED_TYPE: &str = "UnsupportedType";
/// A selector matches nothing, and never has.
pub const SELECTOR_MATCHED_NOTHING: &str = "SelectorMatchedNothing";
/// A selector matches nothing where it used to match.
pub const SELECTOR_DRIFT: &str = "SelectorDrift";
/// A selector cannot be evaluated on the document.
pub const SELECTOR_FAILED: &str = "SelectorFailed";
/// What came stands in for the document: a log-in, a captcha, a refusal.
pub const LOOKS_BLOCKED: &str = "LooksBlocked";
/// Reading the PDF crashed or took too much memory.
pub const PDF_CRASHED: &str = "PdfCrashed";
/// The process that reads PDFs could not be started.
pub const PDF_NOT_RUN: &str = "PdfNotRun";
/// Nothing failed: the document is to be fetched later.
pub const NOT_YET: &str = "NotYet";

/// The target took the delivery.
pub const DELIVERED: &str = "Delivered";
/// The target says that it is gone.
pub const TARGET_GONE: &str = "TargetGone";
/// The target answered 2xx, and something else than it answers to what it took.
pub const UNEXPECTED_ANSWER: &str = "UnexpectedAnswer";
/// What a target names in a Secret is not what it has to be: a signing secret, or a URL.
pub const INVALID_SECRET: &str = "InvalidSecret";
/// No mail server is configured.
pub const EMAIL_NOT_CONFIGURED: &str = "EmailNotConfigured";
/// The mail server did not take the message.
pub const EMAIL_REFUSED: &str = "EmailRefused";
/// The message did not come to the mail server.
pub const EMAIL_NOT_SENT: &str = "EmailNotSent";
/// The target names an address that is none.
pub const INVALID_EMAIL_ADDRESS: &str = "InvalidEmailAddress";
/// The target names a topic of Tipstaff's own, or of Kafka's.
pub const TOPIC_NOT_ALLOWED: &str = "TopicNotAllowed";
/// The target's topic does not exist.
pub const TOPIC_NOT_FOUND: &str = "TopicNotFound";
/// Tipstaff's user may not write to the target's topic.
pub const TOPIC_FORBIDDEN: &str = "TopicForbidden";
/// There is no Kafka where Tipstaff runs as one process.
pub const KAFKA_NOT_CONFIGURED: &str = "KafkaNotConfigured";
/// Kafka did not acknowledge the record.
pub const RECORD_NOT_ACKNOWLEDGED: &str = "RecordNotAcknowledged";
/// The object store did not take the object.
pub const OBJECT_NOT_STORED: &str = "ObjectNotStored";

/// Whether a document failed for what its site does, and not for what is wrong here.
pub fn is_of_the_site(reason: &str) -> bool {
    matches!(
        reason,
        INVALID_URL
            | SCHEME_NOT_ALLOWED
            | ADDRESS_NOT_ALLOWED
            | HOST_NOT_FOUND
            | DNS_FAILED
            | CONNECT_FAILED
            | TLS_FAILED
            | REQUEST_FAILED
            | TIMEOUT
            | TOO_MANY_REDIRECTS
            | REDIRECT_LOOP
            | HEADERS_TOO_LARGE
            | HTTP_STATUS
            | TOO_LARGE
            | BODY_TRUNCATED
            | DECOMPRESSION_FAILED
            | UNKNOWN_ENCODING
            | ROBOTS_DISALLOWED
            | ROBOTS_UNREACHABLE
    )
}
