//! Stand-ins for what must not leave the host.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    ops::Range,
};

use crate::clean::CleanText;

/// Gives everything that tells of this host, its users and its peers another name, always the same one, and knows the way
/// back. Ports, protocols, errors and numbers stay: without them there is nothing to say.
///
/// What is replaced in free text: addresses and networks, names of hosts, URLs, paths, arguments with values, whatever is
/// quoted, long words that look like keys, and the names it was [told of](Pseudonyms::name) before.
#[derive(Debug, Default)]
pub(crate) struct Pseudonyms {
    stand_ins: HashMap<String, String>,
    originals: HashMap<String, String>,
    /// Those names that are more than one word: `Web Content`.
    phrases: Vec<String>,
    given: HashMap<&'static str, u32>,
}

impl Pseudonyms {
    /// The stand-in of a name: `process-1`.
    pub(crate) fn name(&mut self, kind: &'static str, name: &str) -> String {
        if let Some(stand_in) = self.stand_ins.get(name) {
            return stand_in.clone();
        }
        let number = self.given.entry(kind).or_default();
        *number += 1;
        let stand_in = format!("{kind}-{number}");
        self.stand_ins.insert(name.to_owned(), stand_in.clone());
        if !name.is_empty() && !name.chars().all(in_word) {
            self.phrases.push(name.to_owned());
        }
        self.originals.insert(stand_in.clone(), name.to_owned());
        stand_in
    }

    /// The stand-in of an address, which still says of what kind it is.
    pub(crate) fn address(&mut self, address: IpAddr) -> String {
        let address = address.to_canonical();
        let kind = match address {
            _ if address.is_loopback() => return "loopback".to_owned(),
            _ if address.is_unspecified() => return "any-address".to_owned(),
            _ if address.is_multicast() => "multicast-address",
            IpAddr::V4(v4) if v4.is_private() || v4.is_link_local() => "private-address",
            IpAddr::V6(v6) if v6.is_unique_local() || v6.is_unicast_link_local() => "private-address",
            _ => "public-address",
        };
        self.name(kind, &address.to_string())
    }

    /// Free text with stand-ins.
    pub(crate) fn text(&mut self, text: &str) -> String {
        let mut result = String::with_capacity(text.len());
        let mut rest = text;
        let mut before = ' ';
        while let Some(first) = rest.chars().next() {
            if let Some(quoted) = quotation(rest).filter(|_| !before.is_alphanumeric()) {
                let stand_in = self.name("name", quoted);
                result.push(first);
                result.push_str(&stand_in);
                result.push(first);
                rest = &rest[quoted.len() + 2 * first.len_utf8()..];
                before = first;
                continue;
            }
            if let Some((length, stand_in)) = self.phrase(rest).filter(|_| !before.is_alphanumeric()) {
                result.push_str(&stand_in);
                rest = &rest[length..];
                before = '-';
                continue;
            }
            let length = self.word_length(rest);
            if length == 0 {
                result.push(first);
                rest = &rest[first.len_utf8()..];
                before = first;
                continue;
            }
            let (token, after) = rest.split_at(length);
            match self.known_in(token) {
                Some((place, stand_in)) => {
                    result.extend([&token[..place.start], stand_in, &token[place.end..]]);
                }
                None => {
                    // The end of a sentence is no part of a name that is not known.
                    let word = token.trim_end_matches(['.', ':', '/', '-']);
                    match self.stand_in_of_word(word) {
                        Some(stand_in) => result.push_str(&stand_in),
                        None => result.push_str(word),
                    }
                    result.push_str(&token[word.len()..]);
                }
            }
            before = token.chars().next_back().unwrap_or(' ');
            rest = after;
        }
        result
    }

    /// The longest name of several words that a text starts with, as its length and its stand-in.
    fn phrase(&self, text: &str) -> Option<(usize, String)> {
        let starts = |phrase: &&String| {
            let after = text.strip_prefix(phrase.as_str());
            after.is_some_and(|after| !after.starts_with(char::is_alphanumeric))
        };
        let phrase = self.phrases.iter().filter(starts).max_by_key(|phrase| phrase.len())?;
        Some((phrase.len(), self.stand_ins.get(phrase)?.clone()))
    }

    /// Where the word ends that a text starts with: also where a name of several words begins.
    fn word_length(&self, text: &str) -> usize {
        let mut before = None;
        for (at, character) in text.char_indices() {
            let may_begin = before.is_some_and(|before: char| !before.is_alphanumeric());
            if !in_word(character) || may_begin && self.phrase(&text[at..]).is_some() {
                return at;
            }
            before = Some(character);
        }
        text.len()
    }

    /// The name that a word is but for what stands around it, the longest of several: names may end in a dash, and so may
    /// what somebody writes behind one.
    fn known_in(&self, word: &str) -> Option<(Range<usize>, &str)> {
        let around = |character: &(usize, char)| !character.1.is_alphanumeric();
        let first = word.char_indices().take_while(around).map(|(at, character)| at + character.len_utf8());
        let last = word.char_indices().rev().take_while(around).map(|(at, _)| at);
        let ends: Vec<usize> = [word.len()].into_iter().chain(last).collect();
        for start in [0].into_iter().chain(first) {
            for &end in ends.iter().filter(|end| **end > start) {
                if let Some(stand_in) = self.stand_ins.get(&word[start..end]) {
                    return Some((start..end, stand_in));
                }
            }
        }
        None
    }

    /// Whether one of the names is a part of a word: `nginx-related`.
    fn has_name(&self, word: &str) -> bool {
        let is_apart = |at: usize, name: &str| {
            !word[..at].ends_with(char::is_alphanumeric)
                && !word[at + name.len()..].starts_with(char::is_alphanumeric)
        };
        let names = self.stand_ins.keys().filter(|name| !name.is_empty());
        names.into_iter().any(|name| word.match_indices(name.as_str()).any(|(at, _)| is_apart(at, name)))
    }

    fn stand_in_of_word(&mut self, word: &str) -> Option<String> {
        let bare = word.trim_matches(['[', ']']);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Some(word.replacen(bare, &self.address(address), 1));
        }
        if let Ok(address) = word.parse::<SocketAddr>() {
            return Some(format!("{}:{}", self.address(address.ip()), address.port()));
        }
        if bare.parse::<ipnet::IpNet>().is_ok() {
            return Some(word.replacen(bare, &self.name("network", bare), 1));
        }
        if let Some((_, value)) = word.split_once('=')
            && (word.starts_with('-') || !is_quantity(value))
        {
            return Some(self.name("argument", word));
        }
        if word.contains('/') && word.chars().any(char::is_alphabetic) {
            let kind = if word.contains("://") { "url" } else { "path" };
            return Some(self.name(kind, word));
        }
        if word.contains('@') {
            return Some(self.name("account", word));
        }
        if let Some((host, port)) = word.rsplit_once(':') {
            if port.parse::<u16>().is_ok() && host.chars().any(char::is_alphabetic) {
                return Some(format!("{}:{port}", self.name("host", host)));
            }
            if word.chars().any(char::is_alphanumeric) && word.chars().any(char::is_alphabetic) {
                return Some(self.name("name", word));
            }
            return None;
        }
        if is_host(word) {
            return Some(self.name("host", word));
        }
        if looks_like_a_key(word) {
            return Some(self.name("secret", word));
        }
        self.has_name(word).then(|| self.name("name", word))
    }

    /// Which stand-ins a text has, and what they stand for.
    pub(crate) fn used_in(&self, text: &str) -> BTreeMap<String, CleanText> {
        text.split(|character| !is_part(character))
            .map(|word| word.trim_matches('-'))
            .filter_map(|word| Some((word.to_owned(), CleanText::from(self.originals.get(word)?.as_str()))))
            .collect()
    }

    /// Text with what the stand-ins stand for.
    pub(crate) fn restore(&self, text: &str) -> String {
        let mut result = String::with_capacity(text.len());
        let mut rest = text;
        while !rest.is_empty() {
            let length = rest.find(|character| !is_part(character)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(length);
            // A dash may stand beside a name.
            let stand_in = word.trim_matches('-');
            match self.originals.get(stand_in) {
                Some(original) => result.push_str(&word.replacen(stand_in, original, 1)),
                None => result.push_str(word),
            }
            let between = after.find(is_part).unwrap_or(after.len());
            result.push_str(&after[..between]);
            rest = &after[between..];
        }
        result
    }
}

/// What is between the quotation mark that this starts with and its match, on one line.
fn quotation(text: &str) -> Option<&str> {
    let mark = text.chars().next().filter(|character| matches!(character, '\'' | '"' | '`'))?;
    let inside = &text[1..];
    let end = inside.find([mark, '\n'])?;
    let followed = inside[end + 1..].chars().next();
    (inside[end..].starts_with(mark) && end > 0 && !followed.is_some_and(char::is_alphanumeric))
        .then_some(&inside[..end])
}

/// Of a stand-in.
fn is_part(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '-'
}

fn in_word(character: char) -> bool {
    character.is_alphanumeric() || ".:-_@/[]%=+~\\".contains(character)
}

/// `12`, `0.5ms`, `30%`.
fn is_quantity(value: &str) -> bool {
    let number = value.trim_end_matches(|character: char| character.is_alphabetic() || character == '%');
    number.parse::<f64>().is_ok() && value.len() - number.len() <= 3
}

/// `db.internal.example`, not `0.5` or `e.g`.
fn is_host(word: &str) -> bool {
    let labels: Vec<&str> = word.split('.').collect();
    labels.len() >= 2
        && labels.iter().all(|label| !label.is_empty())
        && labels
            .last()
            .is_some_and(|last| last.chars().count() >= 2 && last.chars().all(char::is_alphabetic))
}

/// Long, and mixed as words are not.
fn looks_like_a_key(word: &str) -> bool {
    let known = ["sk-", "ghp_", "xox", "AKIA", "eyJ"].iter().any(|start| word.starts_with(start));
    let mixed = word.chars().any(|character| character.is_ascii_digit())
        && word.chars().any(|character| character.is_ascii_alphabetic());
    (known && word.len() >= 12) || (mixed && word.len() >= 20)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn nothing_of_the_host_is_left_in_text_and_everything_comes_back() {
        let text = "Why does 'curl' on web-01.corp.example (10.1.2.3, 2001:db8::7) fail to 203.0.113.9:443? \
                    alice ran /home/alice/run --token=hunter2 with sk-proj-abcdef123456 at bob@corp.example; \
                    see https://10.1.2.3:8443/x and db:5432, 192.0.2.0/24, \
                    3f2a9c1b7d6e5f4a3b2c1d0e.";
        let mut pseudonyms = Pseudonyms::default();
        assert_eq!(pseudonyms.name("user", "alice"), "user-1");
        let hidden = pseudonyms.text(text);
        for secret in [
            "curl",
            "web-01",
            "corp",
            "10.1.2.3",
            "2001:db8",
            "203.0.113",
            "alice",
            "home",
            "hunter2",
            "sk-proj",
            "bob",
            "https",
            "db:",
            "192.0.2",
            "3f2a9c",
        ] {
            assert!(!hidden.contains(secret), "{secret}: {hidden}");
        }
        for kept in ["Why does '", ":443?", "fail to", ":5432,", "with"] {
            assert!(hidden.contains(kept), "{kept}: {hidden}");
        }
        assert_eq!(pseudonyms.restore(&hidden), text);
    }

    #[test]
    fn names_are_found_wherever_they_stand() {
        let mut pseudonyms = Pseudonyms::default();
        for name in ["nginx", "Web Content", "Web", "(sd-pam)", "postgres: writer"] {
            pseudonyms.name("process", name);
        }
        let text = "Is it [nginx], ~nginx, nginx's user=alice or nginx=on; Web Content, (sd-pam), Web? postgres: writer.";
        let hidden = pseudonyms.text(text);
        assert_eq!(
            hidden,
            "Is it [process-1], ~process-1, process-1's argument-1 or argument-2; process-2, process-4, process-3? \
             process-5."
        );
        assert_eq!(pseudonyms.restore(&hidden), text);
    }

    #[test]
    fn names_with_marks_at_their_ends_and_in_other_words_are_found() {
        let mut pseudonyms = Pseudonyms::default();
        for name in ["postgres:", "a--", "_build", "Web Content", "nginx"] {
            pseudonyms.name("process", name);
        }
        let text =
            "Is postgres: or a-- or [_build]; [Web Content], ~Web Content, nginx-, -nginx: nginx-related?";
        let hidden = pseudonyms.text(text);
        assert_eq!(
            hidden,
            "Is process-1 or process-2 or [process-3]; [process-4], ~process-4, process-5-, -process-5: name-1?"
        );
        assert_eq!(pseudonyms.restore(&hidden), text);
        assert_eq!(pseudonyms.used_in("-process-5- and process-1.").len(), 2);
    }

    #[test]
    fn what_tells_of_nobody_stays() {
        let text = "5 of 10 attempts failed in 0.35 s (rtt=12ms, lost=0.5%) at 12:34:56 (ECONNREFUSED, port 443); what's wrong, e.g. DNS?";
        assert_eq!(Pseudonyms::default().text(text), text);
    }

    #[test]
    fn one_thing_has_one_name() {
        let mut pseudonyms = Pseudonyms::default();
        let private = pseudonyms.address("10.0.0.1".parse().unwrap());
        assert_eq!(private, "private-address-1");
        assert_eq!(pseudonyms.address("::ffff:10.0.0.1".parse().unwrap()), private);
        assert_eq!(pseudonyms.address("10.0.0.2".parse().unwrap()), "private-address-2");
        assert_eq!(pseudonyms.address("8.8.8.8".parse().unwrap()), "public-address-1");
        assert_eq!(pseudonyms.address("127.0.0.1".parse().unwrap()), "loopback");
        for number in 1..=12 {
            pseudonyms.name("process", &format!("worker {number}"));
        }
        assert_eq!(pseudonyms.restore("process-1 and process-12."), "worker 1 and worker 12.");
        assert_eq!(pseudonyms.restore("process-99, xprocess-1"), "process-99, xprocess-1");
    }

    /// Names as there are on hosts: those that are one word, and those that are not.
    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z][a-z0-9_-]{2,14}",
            "[A-Z][a-z]{2,8} [A-Z][a-z]{2,8}",
            "[a-z]{3,8}: [a-z]{3,8}",
            "\\([a-z]{2,6}-[a-z]{2,6}\\)",
            "[a-z]{2,6}[.][a-z]{2,8}[.]example",
            "[a-zäöü語]{3,8}",
            "kworker/[0-9]:[0-9]-[a-z]{3,6}",
        ]
    }

    /// What stands between names in a sentence, and around them.
    fn between() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            " ",
            ", ",
            " on port 443, ",
            "; ",
            " (",
            ") ",
            " - ",
            ". ",
            "? ",
            "! ",
            "\n",
            " '",
            "' ",
            " \"",
            "\" ",
            " [",
            "] ",
            " 5 of 10 ",
            " failed: ",
            " \u{201e}",
            "\u{201c} ",
        ])
    }

    proptest! {
        /// Of a question about names of this host, and of addresses, nothing is left; and all of it comes back.
        #[test]
        fn no_name_that_is_known_survives(
            names in vec(name(), 1..6),
            words in vec((any::<prop::sample::Index>(), between(), any::<Option<u32>>()), 1..12),
        ) {
            let mut pseudonyms = Pseudonyms::default();
            for name in &names {
                pseudonyms.name("process", name);
            }
            let mut text = "Why ".to_owned();
            let mut secrets: Vec<String> = Vec::new();
            for (index, between, address) in &words {
                let said = match address {
                    Some(bits) if !std::net::Ipv4Addr::from(*bits).is_loopback() && *bits != 0 => {
                        std::net::Ipv4Addr::from(*bits).to_string()
                    }
                    _ => index.get(&names).clone(),
                };
                text += &said;
                text += between;
                secrets.push(said);
            }
            let hidden = pseudonyms.text(&text);
            for secret in &secrets {
                // Not as a word, which is more than a part of one of ours.
                let part_of_ours = "process private public multicast address any name port failed Why on of";
                if part_of_ours.contains(secret.as_str()) {
                    continue;
                }
                prop_assert!(!hidden.contains(secret.as_str()), "{secret:?} is in {hidden:?}, of {text:?}");
            }
            prop_assert_eq!(pseudonyms.restore(&hidden), text);
        }
    }
}
