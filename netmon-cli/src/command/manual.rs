//! Completions and manual pages, made from the command line's own definition.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use crate::{arguments::Arguments, failure::Failure};

pub(super) fn completions(shell: clap_complete::Shell) -> Result<ExitCode, Failure> {
    // Into memory first: the generator panics when it cannot write, as on a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::grammar(), "netmon-cli", &mut script);
    if shell == clap_complete::Shell::Bash {
        // The generator takes the hyphen in our name for that between a command and its subcommand, in one place of two
        // (clap_complete 4.6), and then flags of subcommands are not found.
        let text = String::from_utf8_lossy(&script).replace("netmon__subcmd__cli", "netmon__cli");
        script = text.into_bytes();
    }
    io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn pages(directory: Option<&Path>) -> Result<ExitCode, Failure> {
    let mut command = Arguments::grammar();
    command.build();
    let Some(directory) = directory else {
        clap_mangen::Man::new(command).render(&mut io::stdout())?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut commands = vec![command.clone()];
    let documented = |command: &&clap::Command| command.get_name() != "help" && !command.is_hide_set();
    commands.extend(command.get_subcommands().filter(documented).cloned());
    for command in commands {
        // A subcommand's display name has its parent's before it: netmon-cli-pps.
        let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
        let path = directory.join(format!("{name}.1"));
        let page = clap_mangen::Man::new(command);
        File::create(&path).and_then(|mut file| page.render(&mut file)).map_err(|error| {
            Failure::Usage(format!("cannot write {}: {error}; name a directory that exists", path.display()))
        })?;
        writeln!(io::stdout(), "{}", path.display())?;
    }
    Ok(ExitCode::SUCCESS)
}
