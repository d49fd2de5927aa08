//! How the cache uses memory, and how well: as JSON, and as a page for people.

use hoist_domain::Bytes;
use hoist_wire::v1;
use serde_json::{Value, json};

use crate::error::Result;
use crate::output::cache::rate;
use crate::output::json::seconds;
use crate::output::results::plural;
use crate::output::{Out, Tone, text};

/// Characters. With its label and figures it fits a terminal of 80 columns.
const BAR: u32 = 40;

pub(crate) fn policy_value(it: &v1::CachePolicy) -> Value {
    json!({
        "budget_bytes": it.budget_bytes,
        "eviction": text::eviction_policy(it.eviction),
        "idle_ttl_seconds": seconds(it.idle_ttl.as_ref()),
        "priority": text::priority(it.priority),
    })
}

pub(crate) fn value(it: &v1::GetCacheResponse) -> Value {
    json!({
        "budget_bytes": it.budget_bytes,
        "budget_limit": it.budget_limit,
        "used_bytes": it.used_bytes,
        "sealed_bytes": it.sealed_bytes,
        "filling_bytes": it.filling_bytes,
        "zombie_bytes": it.zombie_bytes,
        "held_bytes": it.held_bytes,
        "segments": it.segments,
        "leases": it.leases,
        "policy": it.policy.as_ref().map(policy_value),
        "statistics": it.statistics.as_ref().map(statistics_value),
        "directory": it.directory,
    })
}

fn statistics_value(it: &v1::CacheStatistics) -> Value {
    json!({
        "hits": it.hits,
        "misses": it.misses,
        "hit_rate": share(it.hits, it.hits.saturating_add(it.misses)),
        "fills": it.fills,
        "read_bytes": it.read_bytes,
        "fill_seconds": seconds(it.fill_time.as_ref()),
        "bytes_per_second": fill_rate(it),
        "shared_bytes": it.shared_bytes,
        "saved_bytes": it.saved_bytes,
        "evictions": it.evictions,
        "evicted_bytes": it.evicted_bytes,
        "mean_idle_at_eviction_seconds": seconds(it.mean_idle_at_eviction.as_ref()),
        "adopted": it.adopted,
        "refusals": it.refusals,
    })
}

/// A part of a whole, 0 to 1; of nothing there is none.
fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn fill_rate(it: &v1::CacheStatistics) -> Option<u64> {
    rate(it.read_bytes, text::wire_span(it.fill_time.as_ref()?))
}

/// What is used of the budget as a bar: `█` complete, `▒` being filled, `░` withdrawn and still open, `·` free. Whatever is
/// there at all has a character.
fn bar(it: &v1::GetCacheResponse) -> String {
    let whole = u128::from(it.budget_bytes.max(it.used_bytes).max(1));
    let mut left = BAR;
    let mut drawn = String::new();
    for (bytes, character) in [(it.sealed_bytes, '█'), (it.filling_bytes, '▒'), (it.zombie_bytes, '░')]
    {
        let wide = u128::from(bytes).saturating_mul(u128::from(BAR)) / whole;
        let wide = u32::try_from(wide).unwrap_or(BAR).max(u32::from(bytes > 0)).min(left);
        left -= wide;
        (0..wide).for_each(|_| drawn.push(character));
    }
    (0..left).for_each(|_| drawn.push('·'));
    drawn
}

fn percent(part: u64, whole: u64) -> String {
    share(part, whole).map(|share| format!("{:.0} %", share * 100.0)).unwrap_or_default()
}

/// The words for what sets the budget.
pub(crate) fn limit_words(limit: &str) -> String {
    match limit {
        "policy" => "as `hoist cache-policy` says".to_owned(),
        "configured" => "as the server was started with".to_owned(),
        "machine" => "what the machine has to spare".to_owned(),
        "tmpfs" => "what the tmpfs holds".to_owned(),
        "unavailable" => "nothing can be cached: `hoist status` says why".to_owned(),
        "" => String::new(),
        group => format!("what the control group {} leaves", text::one_line(group)),
    }
}

fn policy_words(it: &v1::CachePolicy) -> String {
    let budget = it.budget_bytes.map_or_else(|| "auto".to_owned(), |bytes| Bytes(bytes).to_string());
    let ttl = it.idle_ttl.as_ref().map_or_else(|| "never".to_owned(), |it| text::span(text::wire_span(it)));
    format!(
        "budget {budget}, eviction {}, idle TTL {ttl}, priority {}",
        text::eviction_policy(it.eviction),
        text::priority(it.priority)
    )
}

pub(crate) fn print(out: Out, it: &v1::GetCacheResponse) -> Result<()> {
    let is_tight = it.used_bytes.saturating_mul(10) > it.budget_bytes.saturating_mul(9);
    let bar = out.toned(if is_tight { Tone::Warning } else { Tone::Good }, &bar(it));
    let used = percent(it.used_bytes, it.budget_bytes);
    out.line(format_args!(
        "{bar} {} of {}{}",
        Bytes(it.used_bytes),
        Bytes(it.budget_bytes),
        if used.is_empty() { used } else { format!(", {used}") }
    ))?;
    out.row("budget", &format!("{}: {}", Bytes(it.budget_bytes), limit_words(&it.budget_limit)))?;
    let parts = [
        (it.sealed_bytes, "complete"),
        (it.filling_bytes, "being filled"),
        (it.zombie_bytes, "withdrawn, still open"),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(bytes, _)| *bytes > 0)
        .map(|(bytes, what)| format!("{} {what}", Bytes(*bytes)))
        .collect();
    out.row("used", &if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") })?;
    out.row("held", &format!("{} by the kernel's count", Bytes(it.held_bytes)))?;
    out.row("segments", &format!("{}, {}", it.segments, plural(it.leases, "lease")))?;
    if let Some(statistics) = &it.statistics {
        print_statistics(out, statistics)?;
    }
    if let Some(policy) = &it.policy {
        out.row("policy", &policy_words(policy))?;
    }
    out.row("directory", &text::one_line(&it.directory))
}

/// Since the start of the server. What has not happened is not told.
fn print_statistics(out: Out, it: &v1::CacheStatistics) -> Result<()> {
    let asked = it.hits.saturating_add(it.misses);
    if asked > 0 {
        out.row(
            "hits",
            &format!("{} of {}, {}", it.hits, plural(asked, "request"), percent(it.hits, asked)),
        )?;
    }
    if it.fills > 0 {
        let rate = fill_rate(it).map(|rate| format!(", {}", text::rate(rate))).unwrap_or_default();
        out.row("read", &format!("{} for {}{rate}", Bytes(it.read_bytes), plural(it.fills, "segment")))?;
    }
    if it.saved_bytes > 0 || it.shared_bytes > 0 {
        let found = match it.shared_bytes {
            0 => String::new(),
            bytes => format!("; {} were read and there already", Bytes(bytes)),
        };
        out.row("sharing", &format!("saves {}{found}", Bytes(it.saved_bytes)))?;
    }
    if it.evictions > 0 {
        let idle = it.mean_idle_at_eviction.as_ref().map(text::wire_span);
        let idle = idle.map(|idle| format!(", idle for {} on average", text::span(idle))).unwrap_or_default();
        let what = plural(it.evictions, "segment");
        out.row("evicted", &format!("{what}, {}{idle}", Bytes(it.evicted_bytes)))?;
    }
    if it.adopted > 0 {
        out.row("adopted", &format!("{} at the start", plural(it.adopted, "segment")))?;
    }
    if it.refusals > 0 {
        out.row("refused", &format!("{} for want of room", plural(it.refusals, "request")))?;
    }
    Ok(())
}

/// The policy alone, as it is after a change.
pub(crate) fn print_policy(out: Out, it: &v1::CachePolicy) -> Result<()> {
    out.row("policy", &policy_words(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(budget: u64, sealed: u64, filling: u64, zombie: u64) -> v1::GetCacheResponse {
        v1::GetCacheResponse {
            budget_bytes: budget,
            used_bytes: sealed + filling + zombie,
            sealed_bytes: sealed,
            filling_bytes: filling,
            zombie_bytes: zombie,
            ..Default::default()
        }
    }

    #[test]
    fn a_bar_is_as_wide_as_it_should_be_and_shows_all_that_is_there() {
        let width = usize::try_from(BAR).unwrap();
        for it in [
            cache(0, 0, 0, 0),
            cache(100, 0, 0, 0),
            cache(100, 50, 25, 25),
            cache(1_000_000, 1, 1, 1),
            cache(10, 100, 100, 100),
            cache(u64::MAX, u64::MAX - 2, 1, 1),
        ] {
            let drawn = bar(&it);
            assert_eq!(drawn.chars().count(), width, "{drawn}");
        }
        assert_eq!(bar(&cache(100, 50, 0, 0)), format!("{}{}", "█".repeat(20), "·".repeat(20)));
        let little = bar(&cache(1_000_000, 1, 1, 1));
        assert!(little.starts_with("█▒░·"), "{little}");
    }

    #[test]
    fn a_rate_of_nothing_is_no_rate() {
        assert_eq!(share(0, 0), None);
        assert_eq!(share(1, 4), Some(0.25));
        let value = value(&v1::GetCacheResponse {
            statistics: Some(v1::CacheStatistics::default()),
            ..Default::default()
        });
        assert_eq!(value["statistics"]["hit_rate"], Value::Null);
        assert_eq!(value["statistics"]["bytes_per_second"], Value::Null);
    }

    #[test]
    fn a_policy_is_one_line() {
        let policy = v1::CachePolicy {
            budget_bytes: Some(1 << 30),
            eviction: v1::EvictionPolicy::Lru.into(),
            idle_ttl: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
            priority: v1::Priority::Normal.into(),
        };
        assert_eq!(policy_words(&policy), "budget 1.0 GiB, eviction lru, idle TTL 1 h, priority normal");
    }
}
