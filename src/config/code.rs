//! The one list of diagnostic codes.
//!
//! Each has a golden file in `tests/golden/diagnostics` and a line in `docs/configuration.md`; tests hold both. A code
//! keeps its word: scripts may ask for it.

use std::fmt;

macro_rules! codes {
    ($($name:ident $text:literal $meaning:literal;)*) => {
        /// What is wrong, as a stable word.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $meaning] $name,)*
        }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What it means, as half a sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }
        }
    };
}

codes! {
    FileUnreadable "file-unreadable" "a file cannot be read";
    FileTooLarge "file-too-large" "a file is larger than is accepted";
    NotUtf8 "not-utf8" "a file is not UTF-8 text";
    NoFiles "no-files" "a folder has no `*.yaml` file";
    YamlSyntax "yaml-syntax" "the text is not YAML";
    YamlLimit "yaml-limit" "the YAML is nested too deeply or its aliases grow too large";
    YamlTag "yaml-tag" "a YAML tag is used";
    SeveralDocuments "several-documents" "a file has more than one YAML document";
    DuplicateKey "duplicate-key" "a key stands twice in one mapping";
    DuplicateSection "duplicate-section" "a section that cannot be merged is defined in two files";
    UnsetVariable "unset-variable" "an environment variable is not set and has no default";
    BadSubstitution "bad-substitution" "a `${` is not followed by a variable's name and `}`";
    UnknownKey "unknown-key" "a key is not known here";
    MissingKey "missing-key" "a required key is missing";
    WrongType "wrong-type" "a value is of the wrong kind";
    UnknownWord "unknown-word" "a word is none of those that may stand here";
    EmptyList "empty-list" "a list is empty where that has no meaning";
    OutOfRange "out-of-range" "a number or size is outside its range";
    InvalidName "invalid-name" "a name has characters that names do not have";
    DuplicateName "duplicate-name" "two things of one kind have the same name";
    InvalidAddress "invalid-address" "an address cannot be read";
    DuplicateAddress "duplicate-address" "an address is used twice";
    InvalidDuration "invalid-duration" "a duration cannot be read";
    ZeroDuration "zero-duration" "a duration of zero has no meaning here";
    InvalidSize "invalid-size" "a size cannot be read";
    InvalidRate "invalid-rate" "a rate is not a number with up to three decimal places";
    InvalidShare "invalid-share" "a weight is not a percentage";
    InvalidNetwork "invalid-network" "a network cannot be read";
    InvalidRegex "invalid-regex" "a regular expression cannot be read";
    InvalidSource "invalid-source" "a source of an attribute cannot be read";
    InvalidHeader "invalid-header" "a header name or value cannot be sent";
    HopByHopHeader "hop-by-hop-header" "a header belongs to one connection or frames the message";
    InvalidCookie "invalid-cookie" "a cookie name cannot be sent";
    InvalidHost "invalid-host" "a host cannot be read";
    InvalidPath "invalid-path" "a path cannot be read";
    InvalidMethod "invalid-method" "a method cannot be read";
    InvalidStatus "invalid-status" "a status code cannot be used here";
    NoHttp3 "no-http3" "HTTP/3 cannot be served here";
    NoListeners "no-listeners" "there is no listener";
    NoRoutes "no-routes" "there is no route";
    UnknownListener "unknown-listener" "a listener is not defined";
    UnknownUpstream "unknown-upstream" "an upstream is not defined";
    UnknownSplit "unknown-split" "a split is not defined";
    UnknownVariant "unknown-variant" "a variant is not one of the split's";
    SharesOverWhole "shares-over-whole" "the weights add up to more than 100%";
    BaselineWeight "baseline-weight" "the baseline has a weight, but takes what is left";
    OneOf "one-of" "exactly one of several keys must be given";
    RewriteRegex "rewrite-regex" "a prefix cannot be replaced where the path is a regular expression";
    NoEffect "no-effect" "a key has no effect here";
    KeyTooShort "key-too-short" "a key that signs overrides is too short";
    TooManyKeys "too-many-keys" "a key file has more than two keys";
    InvalidCertificate "invalid-certificate" "a file of certificates cannot be used";
    InvalidPrivateKey "invalid-private-key" "a certificate's key cannot be used";
    KeyMismatch "key-mismatch" "a key does not belong to its certificate";
    NamelessCertificate "nameless-certificate" "a certificate has no name that a client could ask for";
    DuplicateCertificate "duplicate-certificate" "two certificates of one kind have the same name";
    TermsNotAgreed "terms-not-agreed" "the terms of an authority are not agreed to";
    InvalidUrl "invalid-url" "a URL cannot be used here";
    InvalidEmail "invalid-email" "an e-mail address cannot be used";
    NoStateDir "no-state-dir" "something must be kept, and `state_dir` does not say where";
    NoChallengeListener "no-challenge-listener" "no listener can answer the authority";
    CertificateTime "certificate-time" "a certificate has expired or is not valid yet";
    RedirectLoop "redirect-loop" "a redirect leads to where it came from";
    UnreachableRoute "unreachable-route" "another route takes every request of this one";
    UnmatchedPath "unmatched-path" "no request has a route's path, as the listeners read paths";
    UnusedUpstream "unused-upstream" "no route and no split leads to an upstream";
    UnusedSplit "unused-split" "no route leads to a split";
    InsecureUpstream "insecure-upstream" "an upstream's endpoints are believed whatever certificate they show";
    UntrustedHeaders "untrusted-headers" "everybody's identity headers count on a listener";
    OpenProxyHeader "open-proxy-header" "everybody may say whose connection a listener gets";
    UnderscoredHeader "underscored-header" "a header is read that no listener lets in";
    MovingAttribute "moving-attribute" "an attribute may change, which moves the unit";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_kebab_case_and_distinct() {
        let mut words: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(
            words
                .iter()
                .all(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'))
        );
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Code::ALL.len());
    }
}
