//! Ranges in host names: `worker[1:3]`, `w[01:10:3]`, `rack-[a:c]`; a name may contain several.

/// The maximum number of hosts of a pattern: more than a cluster has, so a larger range is a mistake.
const MOST: usize = 10_000;

/// The names a pattern stands for, in order, and the port behind it, if one is there. `is_host` says which names are sound.
pub(super) fn expand(pattern: &str, is_host: fn(&str) -> bool) -> Result<(Vec<String>, Option<u16>), String> {
    let (pattern, port) = split_port(pattern)?;
    let mut names = vec![String::new()];
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('[') {
        let Some((range, after)) = after.split_once(']') else { break };
        let Some(words) = words(range)? else {
            // Not a range, but an IPv6 address in brackets.
            names.iter_mut().for_each(|name| *name += &format!("{before}{range}"));
            rest = after;
            continue;
        };
        if names.len().saturating_mul(words.len()) > MOST {
            return Err(format!("{pattern:?} stands for more than {MOST} hosts"));
        }
        names = names.iter().flat_map(|name| words.iter().map(move |word| format!("{name}{before}{word}"))).collect();
        rest = after;
    }
    if rest.contains(['[', ']']) {
        return Err(format!("{pattern:?} has a bracket without its other"));
    }
    names.iter_mut().for_each(|name| *name += rest);
    match names.iter().find(|name| !is_host(name)) {
        Some(bad) => Err(format!("{bad:?} is not a valid host")),
        None => Ok((names, port)),
    }
}

/// Splits `HOST:PORT`, where the colon is outside of brackets and the only one.
fn split_port(pattern: &str) -> Result<(&str, Option<u16>), String> {
    let outside = pattern.rfind(']').map_or(0, |at| at + 1);
    match pattern[outside..].rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => {
            let read = port.parse().ok().filter(|port| *port != 0);
            let port = read.ok_or_else(|| format!("{port:?} is no port"))?;
            Ok((&pattern[..outside + host.len()], Some(port)))
        }
        _ => Ok((pattern, None)),
    }
}

/// Returns the items of `BEGIN:END[:STEP]`, or `None` if it is not a range.
fn words(range: &str) -> Result<Option<Vec<String>>, String> {
    let parts: Vec<&str> = range.split(':').collect();
    let (begin, end, step) = match parts.as_slice() {
        [begin, end] => (*begin, *end, "1"),
        [begin, end, step] => (*begin, *end, *step),
        _ => return Ok(None),
    };
    let bad = || format!("[{range}] is no range");
    let step: usize = step.parse().ok().filter(|step| *step > 0).ok_or_else(bad)?;
    if let ([begin], [end]) = (begin.as_bytes(), end.as_bytes())
        && begin.is_ascii_alphabetic()
        && end.is_ascii_alphabetic()
    {
        if begin > end {
            return Err(bad());
        }
        return Ok(Some((*begin..=*end).step_by(step).map(|letter| char::from(letter).to_string()).collect()));
    }
    // An empty begin is 0, as in Ansible.
    let first: u64 = if begin.is_empty() { 0 } else { begin.parse().map_err(|_| bad())? };
    let last: u64 = end.parse().map_err(|_| bad())?;
    let width = if begin.starts_with('0') && begin.len() > 1 { begin.len() } else { 0 };
    if first > last || (width > 0 && width != end.len()) {
        return Err(bad());
    }
    if usize::try_from(last - first).is_ok_and(|count| count / step < MOST) {
        Ok(Some((first..=last).step_by(step).map(|number| format!("{number:0width$}")).collect()))
    } else {
        Err(format!("[{range}] stands for more than {MOST} hosts"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    type Names = Result<(Vec<String>, Option<u16>), String>;

    fn expand(pattern: &str) -> Names {
        super::expand(pattern, crate::inventory::is_host)
    }

    fn names(pattern: &str) -> Vec<String> {
        expand(pattern).expect("a pattern").0
    }

    #[test]
    fn ranges_count_pad_step_and_multiply() {
        assert_eq!(names("worker[1:3]"), ["worker1", "worker2", "worker3"]);
        assert_eq!(names("w[08:10].lan"), ["w08.lan", "w09.lan", "w10.lan"]);
        assert_eq!(names("w[1:5:2]"), ["w1", "w3", "w5"]);
        assert_eq!(names("r[a:b]-[0:1]"), ["ra-0", "ra-1", "rb-0", "rb-1"]);
        assert_eq!(names("plain"), ["plain"]);
        assert_eq!(expand("w[1:2]:2222"), Ok((vec!["w1".into(), "w2".into()], Some(2222))));
        assert_eq!(expand("[fd00:0:0::5]:22"), Ok((vec!["fd00:0:0::5".into()], Some(22))));
        assert_eq!(expand("fd00::5"), Ok((vec!["fd00::5".into()], None)));
    }

    #[test]
    fn what_is_no_range_is_said() {
        for bad in ["w[3:1]", "w[1:2", "w]1", "w[a:3]", "w[01:100]", "w[1:2:0]", "w[0:99999999999]", "w:99999", "-o"] {
            assert!(expand(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_range_has_as_many_names_as_numbers(first in 0u64..500, more in 0u64..500, step in 1u64..9) {
            let names = names(&format!("n[{first}:{}:{step}]", first + more));
            prop_assert_eq!(names.len() as u64, more / step + 1);
            prop_assert!(names.iter().all(|name| name.starts_with('n')));
        }

        #[test]
        fn nothing_makes_it_panic(pattern in "[\\[\\]:a-z0-9.]{0,16}") {
            let _ = expand(&pattern);
        }
    }
}
