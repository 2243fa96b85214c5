//! Tools by the names that MCP clients and netspy know, each of which is a command: `--tool NAME`, and the list of them.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{Args, FromArgMatches as _};
use netmon_core::{
    CleanText,
    answer::SCHEMA_VERSION,
    filter::did_you_mean,
    view::{Cell, Column, Table, wrapped},
};
use serde::Serialize;

use crate::{
    arguments::{Arguments, Command, Format, Global},
    command::again,
    failure::Failure,
    output::{self, Printer},
};

/// A tool, and the command that it is. Which flags it takes, and whether this build has it, the command says.
struct Tool {
    name: &'static str,
    command: &'static str,
    /// What the command is asked where the tool's own words say nothing else.
    default: Option<(&'static str, &'static str)>,
    /// Former names are taken and not listed.
    listed: bool,
}

impl Tool {
    const fn new(name: &'static str, command: &'static str) -> Self {
        Self { name, command, default: None, listed: true }
    }

    /// netspy asks about a minute.
    const fn about_a_minute(self) -> Self {
        Self { default: Some(("duration", "60")), ..self }
    }

    const fn former(self) -> Self {
        Self { listed: false, ..self }
    }
}

const TOOLS: &[Tool] = &[
    Tool::new("network-monitor", "pps"),
    Tool::new("get_network_summary", "summary").about_a_minute(),
    Tool::new("list_connections", "connections"),
    Tool::new("analyze_patterns", "patterns").about_a_minute(),
    Tool::new("list_packet_drops", "drops"),
    Tool::new("ai_insights", "insights"),
    Tool::new("diagnose", "diagnose"),
    Tool::new("capabilities", "doctor"),
    Tool::new("get_packet_drop_summary", "drops").about_a_minute().former(),
    Tool::new("contextual_analysis", "insights").former(),
];

/// The flags of a tool, and the names that commands have for the same.
const FLAGS: &[(&str, &[&str])] = &[
    ("pid", &["pid"]),
    ("process", &["process"]),
    ("duration", &["duration", "since", "window"]),
    ("max-events", &["max-events", "limit"]),
    ("summary-text", &["summary-text"]),
    ("query", &["query"]),
];

/// Under which help shows netspy's flags.
pub(crate) const HEADING: &str = "One question in the words of netspy";

/// netspy's single-command mode. Values are read by the command that the tool is.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = HEADING)]
pub(crate) struct ToolArguments {
    /// Ask what this tool asks; `netmon-cli tools` lists them, and the command that each one is
    #[arg(long, value_name = "NAME")]
    tool: Option<String>,
    /// Of the process with this number
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pid: Option<String>,
    /// Of processes with this name
    #[arg(long, value_name = "NAME")]
    process: Option<String>,
    /// How far back, or how long to measure
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    duration: Option<String>,
    /// The most rows
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    max_events: Option<String>,
    /// What insights are to be about
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    summary_text: Option<String>,
    /// What is asked about it
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    query: Option<String>,
}

impl ToolArguments {
    fn given(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let Self { tool: _, pid, process, duration, max_events, summary_text, query } = self;
        let values = [pid, process, duration, max_events, summary_text, query];
        FLAGS.iter().zip(values).filter_map(|((flag, _), value)| Some((*flag, value.as_deref()?)))
    }

    /// The command that the tool is, with its flags; `None` where no tool is named.
    pub(crate) fn command(&self) -> Result<Option<Command>, Failure> {
        let Some(name) = &self.tool else {
            return match self.given().next() {
                None => Ok(None),
                Some((flag, _)) => Err(Failure::Usage(format!(
                    "--{flag} goes with a command, as in: netmon-cli summary --{flag} ...; or with a tool, as in: \
                     netmon-cli --tool get_network_summary --{flag} ..."
                ))),
            };
        };
        let grammar = Arguments::grammar();
        let words = self.words(name, &grammar)?;
        let of_netspy = FLAGS.iter().map(|(flag, _)| format!("--{flag}"));
        again::instead(&of_netspy.chain(["--tool".to_owned()]).collect::<Vec<_>>(), &words);
        let matches = grammar.no_binary_name(true).try_get_matches_from(words)?;
        Ok(Arguments::from_arg_matches(&matches)?.command)
    }

    /// Refuses what belongs to a tool beside a command.
    pub(crate) fn refuse(&self) -> Result<(), Failure> {
        if self.tool.is_some() {
            return Err(Failure::Usage("--tool is a question of its own; leave out the command".to_owned()));
        }
        match self.given().next() {
            None => Ok(()),
            Some((flag, _)) => {
                Err(Failure::Usage(format!("--{flag} goes after the command, which it is a flag of")))
            }
        }
    }

    fn words(&self, name: &str, grammar: &clap::Command) -> Result<Vec<String>, Failure> {
        let tool = find(name, grammar)?;
        let Some(command) = grammar.find_subcommand(tool.command) else { return Err(unknown(name, grammar)) };
        let mut words = vec![tool.command.to_owned()];
        let given: Vec<_> = self.given().collect();
        let defaults = tool.default.iter().filter(|(flag, _)| !given.iter().any(|(other, _)| other == flag));
        for (flag, value) in given.iter().chain(defaults) {
            match flag_of(command, flag) {
                // In one word, so that a value is one whatever it begins with.
                Some(own) => words.push(format!("--{own}={value}")),
                // These say what is asked about: without them another question would be answered.
                None if ["pid", "process", "query", "summary-text"].contains(flag) => {
                    let others = match flags(command).as_slice() {
                        [] => String::new(),
                        flags => format!("; it takes {}", flags.join(", ")),
                    };
                    return Err(Failure::Usage(format!("{name} takes no --{flag}{others}")));
                }
                None => output::note(&format!("{name} has no use for --{flag}")),
            }
        }
        Ok(words)
    }
}

/// The flag's name at this command.
fn flag_of(command: &clap::Command, flag: &str) -> Option<&'static str> {
    let (_, names) = FLAGS.iter().find(|(name, _)| *name == flag)?;
    let known = |name: &str| {
        command.get_arguments().any(|argument| {
            let aliases = argument.get_all_aliases().unwrap_or_default();
            argument.get_long() == Some(name) || aliases.contains(&name)
        })
    };
    names.iter().copied().find(|name| known(name))
}

/// The flags that the tool of this command takes.
fn flags(command: &clap::Command) -> Vec<String> {
    let names = FLAGS.iter().map(|(flag, _)| *flag);
    names.filter(|flag| flag_of(command, flag).is_some()).map(|flag| format!("--{flag}")).collect()
}

fn find(name: &str, grammar: &clap::Command) -> Result<&'static Tool, Failure> {
    TOOLS.iter().find(|tool| tool.name == name).ok_or_else(|| unknown(name, grammar))
}

fn unknown(name: &str, grammar: &clap::Command) -> Failure {
    let there = names(grammar);
    let missing = TOOLS.iter().find(|tool| tool.name == name);
    let what = match missing {
        Some(tool) => {
            format!("the tool {name} is the command {}, which this build does not have", tool.command)
        }
        None => {
            let near = did_you_mean(name, there.iter().copied());
            let near = near.map(|near| format!("; {near}")).unwrap_or_default();
            format!("no tool is called \"{}\"{near}", CleanText::from(name))
        }
    };
    Failure::Usage(format!("{what} (there are {})", there.join(", ")))
}

/// The names of the tools that this build has.
pub(crate) fn names(grammar: &clap::Command) -> Vec<&'static str> {
    listed(grammar).map(|(tool, _)| tool.name).collect()
}

fn listed(grammar: &clap::Command) -> impl Iterator<Item = (&'static Tool, &clap::Command)> {
    let listed = TOOLS.iter().filter(|tool| tool.listed);
    listed.filter_map(|tool| Some((tool, grammar.find_subcommand(tool.command)?)))
}

/// A tool, as `tools` lists it.
#[derive(Serialize)]
struct Listed {
    name: &'static str,
    command: &'static str,
    flags: Vec<String>,
    does: String,
}

#[derive(Serialize)]
struct Tools {
    schema_version: u32,
    tools: Vec<Listed>,
}

#[derive(Serialize)]
struct Line<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    tool: &'a Listed,
}

/// Prints the list.
pub(crate) fn list(global: &Global) -> Result<ExitCode, Failure> {
    let grammar = Arguments::grammar();
    let tools = listed(&grammar).map(|(tool, command)| Listed {
        name: tool.name,
        command: tool.command,
        flags: flags(command),
        does: command.get_about().map(ToString::to_string).unwrap_or_default(),
    });
    let tools: Vec<Listed> = tools.collect();
    let mut out = io::stdout().lock();
    match global.output {
        Format::Text => {
            let layout = Printer::new(global).layout();
            let example =
                "As in: --tool get_network_summary --process curl; or by the command, which takes more.";
            writeln!(out, "{}\n{}", table(&tools).render(layout), wrapped(example, layout))?;
        }
        Format::Json => {
            let tools = Tools { schema_version: SCHEMA_VERSION, tools };
            writeln!(out, "{}", serde_json::to_string_pretty(&tools).map_err(io::Error::from)?)?;
        }
        Format::Jsonl => {
            for tool in &tools {
                output::json_line(&mut out, &Line { r#type: "tool", tool })?;
            }
        }
        Format::Csv => {
            output::csv_line(&mut out, ["name", "command", "flags", "does"])?;
            for Listed { name, command, flags, does } in &tools {
                output::csv_line(&mut out, [*name, command, &flags.join(" "), does])?;
            }
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn table(tools: &[Listed]) -> Table {
    let row = |tool: &Listed| {
        let Listed { name, command, flags, does } = tool;
        vec![Cell::from(*name), Cell::from(*command), Cell::from(does.clone()), Cell::from(flags.join(" "))]
    };
    Table {
        columns: vec![
            Column::text("TOOL"),
            Column::text("COMMAND"),
            Column::text("DOES"),
            Column::text("FLAGS").optional(),
        ],
        rows: tools.iter().map(row).collect(),
    }
}
