//! `hookgate top`: the figures of `hookgate stats`, live.

mod screen;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use crossterm::style::{Attribute, Print, SetAttribute};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen,
    LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{execute, queue};
use tokio::time::Instant;

use super::config_file::ConfigFile;
use super::stats::{Reading, Source};
use crate::stats::Live;
use screen::{View, draw};

/// Between two looks at the counters.
const INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks at the last hour, of which there are figures a minute.
const HOUR_INTERVAL: Duration = Duration::from_secs(10);

pub(super) fn run(config: &ConfigFile) -> anyhow::Result<ExitCode> {
    ensure!(io::stdout().is_terminal(), "top needs a terminal; `hookgate stats --watch` does without one");
    let source = Source::new(config)?;
    let first = source.read()?;
    let _terminal = Terminal::take()?;
    let (mut live, mut view) = (Live::default(), View { hour: source.last_hour(), ..View::default() });
    let mut taken = Instant::now();
    let mut hour_taken = taken;
    take(first, Duration::ZERO, &mut live, &mut view);
    loop {
        show(&live, &view)?;
        if event::poll(INTERVAL.saturating_sub(taken.elapsed()))? {
            match event::read()? {
                Event::Key(key) if !press(&mut view, key) => return Ok(ExitCode::SUCCESS),
                _ => {}
            }
        } else {
            let after = taken.elapsed();
            taken = Instant::now();
            if !view.paused {
                take(source.read()?, after, &mut live, &mut view);
                if hour_taken.elapsed() >= HOUR_INTERVAL {
                    (view.hour, hour_taken) = (source.last_hour(), taken);
                }
            }
        }
    }
}

fn take(reading: Reading, after: Duration, live: &mut Live, view: &mut View) {
    view.note = reading.note();
    live.push(reading.document, after);
}

/// Whether to go on.
fn press(view: &mut View, key: KeyEvent) -> bool {
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
        KeyCode::Esc if view.funnel => view.funnel = false,
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Up | KeyCode::Char('k') => view.chosen = view.chosen.saturating_sub(1),
        KeyCode::Down | KeyCode::Char('j') => view.chosen += 1,
        KeyCode::Home => view.chosen = 0,
        KeyCode::Enter | KeyCode::Char('f') => view.funnel = !view.funnel,
        KeyCode::Char('s') => view.order = view.order.next(),
        KeyCode::Char(' ') => view.paused = !view.paused,
        _ => {}
    }
    true
}

fn show(live: &Live, view: &View) -> io::Result<()> {
    let (width, height) = size()?;
    let mut out = io::stdout().lock();
    queue!(out, BeginSynchronizedUpdate)?;
    for (line, at) in draw(live, view, width.into(), height.into()).into_iter().zip(0..) {
        let attribute = if line.marked { Attribute::Reverse } else { Attribute::Reset };
        queue!(
            out,
            MoveTo(0, at),
            SetAttribute(attribute),
            Print(line.text),
            SetAttribute(Attribute::Reset)
        )?;
        queue!(out, Clear(ClearType::UntilNewLine))?;
    }
    queue!(out, EndSynchronizedUpdate)?;
    out.flush()
}

/// The terminal as this command needs it; as it was when dropped.
struct Terminal;

impl Terminal {
    fn take() -> io::Result<Self> {
        enable_raw_mode()?;
        let taken = Self;
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        Ok(taken)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing more.
        let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}
