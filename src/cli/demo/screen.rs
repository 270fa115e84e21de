//! The terminal: taken and given back, and its keys. What is drawn is in [`super::view`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

use super::figures::Figures;
use super::paint::Palette;
use super::view;

/// How long the keyboard is waited for at a time.
const PATIENCE: Duration = Duration::from_millis(100);

/// A terminal in our hands; it is given back when this is dropped, and before a panic is told.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: DefaultTerminal,
    palette: Palette,
    over: Arc<AtomicBool>,
    keyboard: Option<JoinHandle<()>>,
}

/// What a person did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Press {
    /// Asked to end.
    Quit,
    /// Changed the size of the terminal.
    Resize,
}

impl Screen {
    /// Takes the terminal; what is pressed goes to `presses`.
    ///
    /// # Errors
    /// When it is no terminal after all.
    pub(super) fn take(palette: Palette, presses: mpsc::Sender<Press>) -> io::Result<Self> {
        let terminal = ratatui::try_init()?;
        let over = Arc::new(AtomicBool::new(false));
        let mut screen = Self { terminal, palette, over: Arc::clone(&over), keyboard: None };
        let listening = thread::Builder::new().name("weir-demo-keys".to_owned());
        screen.keyboard = Some(listening.spawn(move || listen(&over, &presses))?);
        Ok(screen)
    }

    /// Draws what has changed.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn draw(&mut self, figures: &Figures) -> io::Result<()> {
        let palette = self.palette;
        self.terminal.draw(|frame| view::draw(frame, figures, palette)).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(keyboard) = self.keyboard.take() {
            // Joined, so that the shell gets the keys pressed from now on.
            let _ = keyboard.join();
        }
        ratatui::restore();
    }
}

fn listen(over: &AtomicBool, presses: &mpsc::Sender<Press>) {
    while !over.load(Ordering::Relaxed) {
        // Where keys cannot be read, signals still end the demo.
        let press = match event::poll(PATIENCE) {
            Ok(false) => continue,
            Ok(true) => event::read().map(|event| press(&event)),
            Err(_) => return,
        };
        match press {
            Ok(None) => {}
            Ok(Some(press)) => {
                if presses.blocking_send(press).is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

fn press(event: &Event) -> Option<Press> {
    match event {
        Event::Resize(..) => Some(Press::Resize),
        Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) => match code {
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => Some(Press::Quit),
            KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Some(Press::Quit),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_keys_that_end_it_end_it() {
        let key = |code, modifiers| Event::Key(KeyEvent::new(code, modifiers));
        let (plain, control) = (KeyModifiers::NONE, KeyModifiers::CONTROL);
        let rows = [
            (key(KeyCode::Char('q'), plain), Some(Press::Quit)),
            (key(KeyCode::Esc, plain), Some(Press::Quit)),
            (key(KeyCode::Char('c'), control), Some(Press::Quit)),
            (key(KeyCode::Char('c'), plain), None),
            (key(KeyCode::Enter, plain), None),
            (Event::Resize(80, 24), Some(Press::Resize)),
            (Event::FocusGained, None),
        ];
        for (event, expected) in rows {
            assert_eq!(press(&event), expected, "{event:?}");
        }
    }
}
