//! `paquebot-server store …`: from the command line to the store's tools. Called by `main` alone.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use paquebot_config::Address;
use paquebot_server::store::embedded::tools::check::Report;
use paquebot_server::store::embedded::tools::export::{Format, Selection};
use paquebot_server::store::embedded::tools::{backup, check, export, import, repair};
use paquebot_server::store::{Folder, MailboxName, MaildropName};

/// What is done with a store.
#[derive(Subcommand)]
pub enum StoreCommand {
    /// Look at everything in the store and change nothing; also while a server has it. Ends with 0 when it is whole, 1 when
    /// something is damaged (each with file, row and offset), 2 when it could not be looked at.
    Check(Place),
    /// Put counters and references right, and move messages that cannot be read to `quarantine`. No server may run.
    Repair(Place),
    /// Copy the whole store to a new directory; also while a server has it.
    Backup {
        #[command(flatten)]
        place: Place,
        /// The directory to make.
        target: PathBuf,
    },
    /// Put a backup into a data directory that has no store. No server may run.
    Restore {
        #[command(flatten)]
        place: Place,
        /// The backup's directory.
        backup: PathBuf,
    },
    /// Write messages as files that other mail programs read; also while a server has the store. Ends with 1 when octets of
    /// some of them are not what was written; those are exported as they are.
    Export {
        #[command(flatten)]
        place: Place,
        /// One mailbox only.
        #[arg(long, value_parser = address)]
        mailbox: Option<Address>,
        /// The mailboxes of one tenant only: the namespace of their MailDomain; empty: what is nobody's. Needed for a
        /// mailbox of which several tenants have had the address.
        #[arg(long)]
        tenant: Option<String>,
        /// One folder only; INBOX is the inbox.
        #[arg(long, value_parser = folder)]
        folder: Option<Folder>,
        /// The form of the files.
        #[arg(long, value_enum, default_value_t = Form::Maildir)]
        format: Form,
        /// The directory to make.
        target: PathBuf,
    },
    /// Add the messages of a Maildir (a directory) or an mbox (a file) to a mailbox. No server may run. What is imported
    /// twice is there twice.
    Import {
        #[command(flatten)]
        place: Place,
        /// The mailbox.
        #[arg(long, value_parser = address)]
        mailbox: Address,
        /// Whose mailbox: the namespace of its MailDomain. Needed where several tenants have had the address.
        #[arg(long, default_value = "")]
        tenant: String,
        /// Mail of the address that is nobody's yet becomes the tenant's too.
        #[arg(long, requires = "tenant")]
        claim: bool,
        /// The folder; INBOX is the inbox.
        #[arg(long, default_value = "INBOX", value_parser = folder)]
        folder: Folder,
        /// The Maildir or mbox.
        source: PathBuf,
    },
}

/// Which store.
#[derive(clap::Args)]
pub struct Place {
    /// The directory of the mail store.
    #[arg(long, default_value = "/var/lib/paquebot")]
    data_dir: PathBuf,
}

/// The form of exported files.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Form {
    /// A directory for each mailbox, a file for each message.
    Maildir,
    /// One file for each mailbox and folder.
    Mbox,
}

fn address(text: &str) -> Result<Address, String> {
    Address::parse(text).map_err(|error| error.to_string())
}

fn folder(text: &str) -> Result<Folder, String> {
    Folder::parse(text).ok_or_else(|| "a folder has 1 to 64 characters, none of them a control character".to_owned())
}

/// Does it; yields how the process ends.
///
/// # Errors
/// What kept it from being done.
pub async fn run(command: StoreCommand) -> anyhow::Result<ExitCode> {
    match command {
        StoreCommand::Check(place) => return print_check(&place),
        StoreCommand::Repair(place) => {
            let done = repair::repair(&place.data_dir)?;
            for line in &done {
                say(line)?;
            }
            say(&format!("{} repairs", done.len()))?;
        }
        StoreCommand::Backup { place, target } => {
            let report = backup::backup(&place.data_dir, &target)?;
            say(&format!("{} messages are in {}", report.messages, target.display()))?;
        }
        StoreCommand::Restore { place, backup } => {
            let report = backup::restore(&backup, &place.data_dir)?;
            say(&format!("{} messages are in {}", report.messages, place.data_dir.display()))?;
        }
        StoreCommand::Export { place, mailbox, tenant, folder, format, target } => {
            let format = match format {
                Form::Maildir => Format::Maildir,
                Form::Mbox => Format::Mbox,
            };
            let report = export::export(&place.data_dir, &target, format, &Selection { mailbox, tenant, folder })?;
            say_findings(&report)?;
            say(&format!("{} messages are in {}", report.messages, target.display()))?;
            return Ok(exit_code(&report));
        }
        StoreCommand::Import { place, mailbox, tenant, claim, folder, source } => {
            let mailbox = MailboxName { address: mailbox, tenant: tenant.into() };
            let to = MaildropName { mailbox, folder };
            let imported = import::import(&place.data_dir, &source, &to, claim).await?;
            let whose = match &*imported.to.tenant {
                "" => "nobody's yet: the first tenant's that uses the address".to_owned(),
                tenant => format!("the tenant {tenant}'s"),
            };
            say(&format!("{} messages were added to {to}, which is {whose}", imported.messages))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_check(place: &Place) -> anyhow::Result<ExitCode> {
    let report = match check::check(&place.data_dir) {
        Ok(report) => report,
        Err(error) => {
            tracing::error!("{error}");
            return Ok(ExitCode::from(2));
        }
    };
    say_findings(&report)?;
    let verdict = if report.is_whole() { "the store is whole" } else { "the store is damaged" };
    say(&format!(
        "{verdict}: {} messages, {} entries in maildrops, {} recipients in the queue",
        report.messages, report.entries, report.queued
    ))?;
    Ok(exit_code(&report))
}

fn say_findings(report: &Report) -> anyhow::Result<()> {
    for line in report.findings.iter().chain(&report.notes) {
        say(line)?;
    }
    if report.more > 0 {
        say(&format!("… and {} more", report.more))?;
    }
    Ok(())
}

fn exit_code(report: &Report) -> ExitCode {
    if report.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").context("standard output cannot be written")
}
