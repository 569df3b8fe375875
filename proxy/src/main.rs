use hookgate::{config::Config, observe::Log, server::Prepared};
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("config?")?;
    let config = Config::load(path.as_ref()).map_err(|e| {
        eprintln!("{e}");
        e
    })?;
    let log = Log::new(config.log);
    Prepared::new(&config, log)?.listen()?.run()?;
    Ok(())
}
