//! The command line: every noun and verb, nothing of what they do.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Benteng: a replicated, encrypted storage cluster and data lake.
#[derive(Parser)]
#[command(name = "benteng", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) noun: Noun,
}

/// What every command takes.
#[derive(Args, Clone)]
pub(crate) struct Global {
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// The site: an `endpoints.env` file, or the URL of an admin API (else BENTENG_ADMIN_URL).
    #[arg(long, global = true, value_name = "FILE|URL")]
    pub(crate) site: Option<String>,
    /// Certificate authority of the site, PEM, for doors that speak TLS.
    #[arg(long, global = true, value_name = "FILE", env = "BENTENG_CA_FILE")]
    pub(crate) ca: Option<PathBuf>,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// Comma-separated values; `sql` alone.
    Csv,
}

#[derive(Subcommand)]
pub(crate) enum Noun {
    /// Run a whole site for development in the foreground.
    Dev(DevArgs),
    /// Run one node.
    Server(ServerArgs),
    /// Prepare this node as the first of a new site.
    Init(ServerArgs),
    /// Prepare this node as a member of a site that is there.
    Join(JoinArgs),
    /// Go on with this node alone after the loss of a majority for good.
    Recover(RecoverArgs),
    /// Check a configuration file, or print one with every key.
    #[command(subcommand)]
    Config(ConfigVerb),
    /// The site as a whole.
    #[command(subcommand)]
    Site(SiteVerb),
    /// Nodes of the site.
    #[command(subcommand)]
    Node(NodeVerb),
    /// Reading every stored byte again.
    #[command(subcommand)]
    Scrub(ScrubVerb),
    /// Buckets.
    #[command(subcommand)]
    Bucket(BucketVerb),
    /// Objects.
    #[command(subcommand)]
    Object(ObjectVerb),
    /// Users.
    #[command(subcommand)]
    User(UserVerb),
    /// Access keys.
    #[command(subcommand)]
    Key(KeyVerb),
    /// Run SQL: one query with -c, else a shell.
    Sql(SqlArgs),
    /// Measure an endpoint under load.
    #[command(subcommand)]
    Bench(crate::bench::BenchVerb),
    /// Print the completions of a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// A node of `benteng dev`: as `server`, but ends with its parent.
    #[command(hide = true)]
    NodeChild(ServerArgs),
}

#[derive(Args, Clone)]
pub(crate) struct DevArgs {
    /// Nodes of the site [default: as many as DIR holds, else 1].
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) nodes: Option<u8>,
    /// Where the site lives.
    #[arg(long, default_value = "./benteng-data", value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// First port; 0 takes any free ones and keeps them.
    #[arg(long, default_value_t = 7400, value_name = "P")]
    pub(crate) base_port: u16,
    /// Load the sample data and print the answer of a query over it.
    #[arg(long)]
    pub(crate) demo: bool,
    /// Start nodes that die again.
    #[arg(long)]
    pub(crate) supervise: bool,
    /// Ask the site that runs in DIR to start node I again, and wait until it serves.
    #[arg(long, value_name = "I", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(crate) restart_node: Option<u8>,
}

#[derive(Args, Clone)]
pub(crate) struct ServerArgs {
    /// Configuration file (TOML); `benteng config defaults` prints one.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

#[derive(Args)]
pub(crate) struct RecoverArgs {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// What only the lost nodes had is lost for good, and they never come back but by replacement.
    #[arg(long)]
    pub(crate) accept_loss: bool,
}

#[derive(Args)]
pub(crate) struct JoinArgs {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Token of `benteng node add`; `-` reads it from standard input.
    #[arg(long, env = "BENTENG_JOIN_TOKEN", hide_env_values = true)]
    pub(crate) token: String,
    /// The node that this one takes the place of; the token must be for that (`benteng node add --replace`).
    #[arg(long, value_name = "OLD_ID")]
    pub(crate) replace: Option<u64>,
}

#[derive(Subcommand)]
pub(crate) enum ConfigVerb {
    /// Read a configuration file and the environment, and say what is wrong.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Print a configuration file with every key, its default and what it means.
    Defaults,
}

#[derive(Subcommand)]
pub(crate) enum SiteVerb {
    /// How the site is.
    Status,
    /// Check the site and say what to do; exits 1 if a person must act.
    Doctor,
}

#[derive(Subcommand)]
pub(crate) enum NodeVerb {
    /// Nodes of the site.
    List,
    /// Make a token with which one node may join.
    Add {
        /// The node that the new one replaces; it is removed for good.
        #[arg(long, value_name = "OLD_ID")]
        replace: Option<u64>,
        /// How long the token is valid, minutes.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=7 * 24 * 60))]
        valid: u32,
    },
    /// Move everything that a node holds to others; it goes on serving.
    Drain {
        /// Its id or name.
        node: String,
        /// Wait until it is drained.
        #[arg(long)]
        wait: bool,
    },
    /// Call a node back that is being drained.
    Undrain {
        /// Its id or name.
        node: String,
    },
    /// Remove a node for good; its id is never used again.
    Remove {
        /// Its id or name.
        node: String,
        /// Go on with fewer than three voters and fewer copies, where the loss of one more node is not survived.
        #[arg(long)]
        accept_one_voter: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum ScrubVerb {
    /// Begin a full pass now.
    Run {
        /// The node's id or name [default: all nodes].
        #[arg(long)]
        node: Option<String>,
        /// Wait until it has ended.
        #[arg(long)]
        wait: bool,
    },
    /// How far each node is, and what was found.
    Status,
}

#[derive(Subcommand)]
pub(crate) enum BucketVerb {
    /// Buckets that you may see.
    List,
    /// Create a bucket.
    Create {
        /// Its name.
        name: String,
        /// The user that owns it [default: you].
        #[arg(long)]
        owner: Option<String>,
    },
    /// Delete an empty bucket.
    Delete {
        /// Its name.
        name: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum ObjectVerb {
    /// List objects.
    Ls {
        /// BUCKET or BUCKET/PREFIX, with or without s3:// before it.
        place: String,
        /// Everything below the prefix, not one level.
        #[arg(long, short)]
        recursive: bool,
    },
    /// Store a file as an object.
    Put {
        /// The file; `-` is standard input.
        file: PathBuf,
        /// BUCKET/KEY; a KEY that ends in `/` gets the file's name.
        place: String,
    },
    /// Fetch an object.
    Get {
        /// BUCKET/KEY.
        place: String,
        /// Where to; `-` is standard output [default: the key's last part, in this directory].
        file: Option<PathBuf>,
    },
    /// Delete objects.
    Rm {
        /// BUCKET/KEY, any number.
        #[arg(required = true)]
        places: Vec<String>,
    },
    /// Show what is known about an object.
    Stat {
        /// BUCKET/KEY.
        place: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum UserVerb {
    /// Create a user; prints a generated password unless one is given.
    Create {
        /// Its name.
        name: String,
        /// Role; may be repeated.
        #[arg(long = "role", required = true)]
        roles: Vec<String>,
        /// The agency it belongs to.
        #[arg(long)]
        opd: Option<String>,
        /// Read the password from the first line of standard input.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Users of the site.
    List,
    /// Delete a user and its access keys.
    Delete {
        /// Its name.
        name: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum KeyVerb {
    /// Create an access key; its secret is shown this once.
    Create {
        /// Whose it is [default: yours].
        #[arg(long)]
        user: Option<String>,
    },
    /// Access keys of a user.
    List {
        /// Whose [default: yours].
        #[arg(long)]
        user: Option<String>,
    },
    /// Delete an access key.
    Delete {
        /// Its public half.
        id: String,
    },
}

#[derive(Args)]
pub(crate) struct SqlArgs {
    /// Run this and exit.
    #[arg(short = 'c', long = "command", value_name = "QUERY")]
    pub(crate) command: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn contracts_of_scripts_are_understood() {
        let check = |line: &str, exit: Option<i32>| {
            let got = Cli::try_parse_from(line.split(' ')).err().map(|e| e.exit_code());
            assert_eq!(got, exit, "{line}");
        };
        check("benteng dev --nodes 3 --data d --base-port 0", None);
        check("benteng dev --data d --restart-node 2", None);
        check("benteng site status --output json", None);
        check("benteng --output json --site http://x site status", None);
        check("benteng user create kontrak --role admin", None);
        check("benteng user create kontrak", Some(2));
        check("benteng key create --user kontrak --output json", None);
        check("benteng node drain 3 --wait", None);
        check("benteng node remove node-3 --accept-one-voter", None);
        check("benteng scrub run --node 2 --wait --output json", None);
        check("benteng scrub status", None);
        check("benteng recover --config f --accept-loss", None);
        check("benteng sql -c select", None);
        check("benteng bench s3 --size 64KiB --concurrency 4 --ops put,get --output json", None);
        check("benteng bench s3 --size much", Some(2));
        check("benteng site no-such-verb", Some(2));
        check("benteng no-such-noun", Some(2));
        check("benteng dev --nodes 0", Some(2));
        check("benteng --help", Some(0));
        check("benteng --version", Some(0));
    }
}
