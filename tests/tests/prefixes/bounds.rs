//! How much a refresh may add and take away, and what an operator may override.

use std::sync::{Arc, Mutex, PoisonError};

use super::*;

/// The list that hookgate is built with.
const BUILT_IN: &str = include_str!("../../../proxy/src/prefixes/as32934.txt");

/// A registry whose answer changes, and a proxy's folder with the built-in list.
struct Registry {
    answer: Arc<Mutex<String>>,
    testbed: Testbed,
}

impl Registry {
    fn new() -> Result<Self> {
        let answer = Arc::<Mutex<String>>::default();
        let given = Arc::clone(&answer);
        let whois = Whois::start(move |stream| {
            let answer = given.lock().unwrap_or_else(PoisonError::into_inner).clone();
            stream.write_all(answer.as_bytes())
        })?;
        let testbed = Testbed(TempDir::new("bounds")?);
        let text = format!(
            "[listen]\nplain = [\"127.0.0.1:1\"]\n[guard]\ninterfaces = [\"lo\"]\nregistry = \"{}\"\n\
             state = \"state/prefixes\"\n",
            whois.address()
        );
        testbed.0.write("hookgate.toml", text)?;
        Ok(Self { answer, testbed })
    }

    fn has(&self, prefixes: &[String]) {
        let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = own(&prefixes) + "\n\n";
    }

    fn accepts(&self, prefixes: &[String]) -> Result<Said> {
        self.has(prefixes);
        let said = self.testbed.run("prefixes update")?;
        ensure!(said.code == Some(0), "{}", said.stderr);
        Ok(said)
    }

    /// Refused for all of these reasons; nothing changes.
    fn refuses(&self, prefixes: &[String], why: &[&str]) -> Result<()> {
        self.has(prefixes);
        let before = self.testbed.list()?;
        for command in ["prefixes update", "prefixes diff"] {
            let said = self.testbed.run(command)?;
            ensure!(said.code == Some(1), "{command}: exit code {:?}: {}", said.code, said.stdout);
            ensure!(said.stderr.contains("the prefixes in force stay"), "{command}: {}", said.stderr);
            let told = said.stdout + &said.stderr;
            for why in why {
                ensure!(told.contains(why), "{command}: {why:?} is not in {told}");
            }
        }
        ensure!(self.testbed.list()? == before, "something has changed");
        Ok(())
    }
}

fn built_in() -> Vec<String> {
    let rows = BUILT_IN.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    rows.filter(|row| !row.is_empty()).map(str::to_owned).collect()
}

fn with(rows: Vec<String>, more: impl IntoIterator<Item = String>) -> Vec<String> {
    rows.into_iter().chain(more).collect()
}

/// The first `count` public /`length`s from 24.0.0.0 on, where Meta has none.
fn foreign(length: u32, count: u32) -> impl Iterator<Item = String> {
    (0..count).map(move |n| {
        format!("{}/{length}", std::net::Ipv4Addr::from_bits(0x1800_0000 + (n << (32 - length))))
    })
}

#[test]
fn a_forged_answer_does_not_make_the_internet_metas() -> Result<()> {
    let registry = Registry::new()?;
    // As many as there are between 24/8 and 57.144/14, in rows of /12 and in smaller ones.
    registry.refuses(
        &with(built_in(), foreign(12, 500)),
        &[
            "addresses would be added to 531968 addresses, and all refreshes together may add at most half as \
             many as are built in (265984 addresses)",
            "a refresh may add no IPv4 row shorter than /14: 24.0.0.0/12, ",
            " and 490 more",
        ],
    )?;
    registry.refuses(&with(built_in(), foreign(16, 2000)), &["addresses would be added to 531968"])?;
    registry.refuses(
        &with(built_in(), ["24.0.0.0/13".to_owned()]),
        &["a refresh may add no IPv4 row shorter than /14: 24.0.0.0/13"],
    )?;
    registry.refuses(
        &with(built_in(), ["2600::/31".to_owned()]),
        &["a refresh may add no IPv6 row shorter than /32: 2600::/31"],
    )?;
    Ok(())
}

#[test]
fn additions_are_measured_against_the_built_in_list_however_many_steps_they_take() -> Result<()> {
    let registry = Registry::new()?;
    // Half of what is built in is a little more than a /14: 265,984 addresses.
    registry.accepts(&with(built_in(), foreign(14, 1)))?;
    registry.refuses(&with(built_in(), foreign(14, 2)), &["524288 addresses would be added to 531968"])?;
    let all = with(built_in(), foreign(14, 1));
    registry.accepts(&with(all.clone(), ["25.0.0.0/21".to_owned(), "25.0.8.0/22".to_owned()]))?;
    registry.refuses(&with(all, ["25.0.0.0/20".to_owned()]), &["266240 addresses would be added"])?;
    Ok(())
}

#[test]
fn half_is_taken_away_once_and_no_more() -> Result<()> {
    let registry = Registry::new()?;
    let rows = |keep: &[&str]| keep.iter().map(|row| (*row).to_owned()).collect::<Vec<_>>();
    let v6 = built_in().into_iter().filter(|row| row.contains(':')).collect::<Vec<_>>();
    // 57.144.0.0/14 is 49 % of the addresses, 157.240.0.0/16 12 %.
    registry.accepts(&with(v6.clone(), rows(&["57.144.0.0/14", "157.240.0.0/16"])))?;
    registry.refuses(
        &with(v6, rows(&["57.144.0.0/15", "157.240.0.0/16"])),
        &["% of the IPv4 addresses that are configured would stay", "at least half of them must"],
    )?;
    registry.accepts(&built_in())?;
    Ok(())
}

#[test]
fn force_overrides_the_bounds_and_says_so() -> Result<()> {
    let registry = Registry::new()?;
    let wide = with(built_in(), ["24.0.0.0/13".to_owned()]);
    registry.refuses(&wide, &["24.0.0.0/13"])?;
    let diff = registry.testbed.run("prefixes diff")?;
    assert!(diff.stdout.contains("+ 24.0.0.0/13\n"), "{}", diff.stdout);
    let diff: Value = serde_json::from_str(&registry.testbed.run("prefixes diff --json")?.stdout)?;
    assert!(diff["refused"].as_str().is_some_and(|why| why.contains("24.0.0.0/13")), "{diff}");
    assert_eq!(diff["added"], json!(["24.0.0.0/13"]));

    let forced = registry.testbed.run("prefixes update --force")?;
    assert_eq!(forced.code, Some(0), "{}", forced.stderr);
    let warning = "warning: --force overrides: a refresh may add no IPv4 row shorter than /14: 24.0.0.0/13\n";
    assert!(forced.stderr.contains(warning), "{}", forced.stderr);
    // Every later command begins as a start does, with the state file.
    let holds = |row: &str| -> Result<bool> { Ok(registry.testbed.list()?.lines().any(|line| line == row)) };
    assert!(holds("24.0.0.0/13")?);
    assert_eq!(registry.testbed.run("prefixes list")?.stderr, "");

    // The next refresh without force: the same answer, and a little more; but not a further row of
    // that kind.
    registry.accepts(&wide)?;
    registry.accepts(&with(wide.clone(), foreign(24, 1).map(|_| "26.0.0.0/24".to_owned())))?;
    registry.refuses(&with(wide.clone(), ["26.0.0.0/13".to_owned()]), &["shorter than /14: 26.0.0.0/13"])?;
    assert!(holds("24.0.0.0/13")?);

    // Without the mark of the operator's command the same file is refused, as one of another
    // program is.
    let state = std::fs::read_to_string(registry.testbed.state())?;
    let unmarked: Vec<&str> = state.lines().filter(|line| !line.starts_with("forced ")).collect();
    let rows = unmarked.iter().filter(|line| line.starts_with("reg") || line.starts_with("rem")).count() - 1;
    let unmarked = unmarked
        .iter()
        .filter(|line| !line.starts_with("end "))
        .fold(String::new(), |text, line| text + line + "\n");
    registry.testbed.0.write("state/prefixes", format!("{unmarked}end {rows}\n"))?;
    let said = registry.testbed.run("prefixes list")?;
    assert!(said.stderr.contains("shorter than /14: 24.0.0.0/13"), "{}", said.stderr);
    assert!(!holds("24.0.0.0/13")?);
    registry.testbed.0.write("state/prefixes", state)?;
    assert!(holds("24.0.0.0/13")?);

    // The row goes, and with it what was forced.
    registry.has(&built_in());
    let lost = registry.testbed.run("prefixes update --force")?;
    assert_eq!(lost.code, Some(0), "{}", lost.stderr);
    assert!(!holds("24.0.0.0/13")?);
    registry.refuses(&wide, &["24.0.0.0/13"])?;
    Ok(())
}

#[test]
fn force_believes_nothing_that_no_prefix_can_be() -> Result<()> {
    let registry = Registry::new()?;
    for (row, why) in [("24.0.0.0/11", "shorter than /12"), ("10.0.0.0/16", "not public")] {
        registry.has(&with(built_in(), [row.to_owned()]));
        let said = registry.testbed.run("prefixes update --force")?;
        assert_eq!(said.code, Some(1));
        assert!(said.stderr.contains(why), "{}", said.stderr);
    }
    Ok(())
}
