//! RFC 1939 §6: UPDATE. These delete the samples that are there to be deleted, so they come last.

use anyhow::{Result, ensure};

use super::super::Requirement;
use super::super::target::Target;
use super::{Session, samples};

pub const REQUIREMENTS: &[Requirement] = &[
    Requirement::function("RFC 1939 §3", "a connection that is lost deletes nothing", a_lost_connection),
    Requirement::function("RFC 1939 §6", "QUIT deletes what is marked, and nothing else", quit_deletes),
    Requirement::function("RFC 1939 §5", "QUIT in the same packet as DELE deletes too", deleted_in_one_packet),
    Requirement::function("RFC 1939 §7", "the unique-ids of deleted messages do not come back", ids_do_not_come_back),
];

fn ids(session: &mut Session) -> Result<Vec<String>> {
    Ok(session.numbered("UIDL")?.into_iter().map(|(_, id)| id).collect())
}

fn a_lost_connection(target: &Target) -> Result<()> {
    let mut session = Session::open(target)?;
    let before = ids(&mut session)?;
    session.ok("DELE 1")?;
    session.ok("DELE 2")?;
    drop(session);
    // Its lock frees itself; until then the login is refused.
    let deadline = std::time::Instant::now() + target.patience;
    let mut again = loop {
        match Session::open(target) {
            Ok(session) => break session,
            Err(error) if std::time::Instant::now() > deadline => return Err(error),
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(100)),
        }
    };
    ensure!(ids(&mut again)? == before, "messages are gone without QUIT");
    again.ok("QUIT")?;
    Ok(())
}

fn quit_deletes(target: &Target) -> Result<()> {
    let mut session = Session::open(target)?;
    let mut expected = ids(&mut session)?;
    let number = session.sample(&samples::DELETED[0])?;
    session.ok(&format!("DELE {number}"))?;
    session.ok("QUIT")?;
    session.connection.expect_end()?;
    expected.remove(usize::try_from(number)? - 1);
    let mut session = Session::open(target)?;
    ensure!(ids(&mut session)? == expected, "what is left is not all but the message that was deleted");
    session.ok("QUIT")?;
    Ok(())
}

fn deleted_in_one_packet(target: &Target) -> Result<()> {
    let mut session = Session::open(target)?;
    let (count, _) = session.stat()?;
    let number = session.sample(&samples::DELETED[1])?;
    session.connection.send(format!("DELE {number}\r\nQUIT\r\n").as_bytes())?;
    ensure!(session.answer()?.starts_with("+OK"), "DELE was refused");
    ensure!(session.answer()?.starts_with("+OK"), "QUIT was refused");
    session.connection.expect_end()?;
    let mut session = Session::open(target)?;
    ensure!(session.stat()?.0 == count - 1, "the message is still there");
    session.ok("QUIT")?;
    Ok(())
}

fn ids_do_not_come_back(target: &Target) -> Result<()> {
    let mut session = Session::open(target)?;
    let before = ids(&mut session)?;
    session.ok("QUIT")?;
    let mut session = Session::open(target)?;
    ensure!(ids(&mut session)? == before, "the unique-ids have changed after a deletion");
    session.ok("QUIT")?;
    Ok(())
}
