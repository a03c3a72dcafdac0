//! Gives a folder's files to browsers on this machine. Of HTTP it needs a line and a header; `tiny_http`, which would
//! save ten lines, has had no release since 2022.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Component, Path};

pub fn serve(folder: &Path, port: u16) -> crate::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(|error| format!("port {port}: {error}; give another one"))?;
    println!("http://{}/ (Ctrl-C ends)", listener.local_addr()?);
    for stream in listener.incoming().flatten() {
        let folder = folder.to_owned();
        // A browser that goes away in the middle is no concern of the others.
        std::thread::spawn(move || answer(stream, &folder));
    }
    Ok(())
}

fn answer(mut stream: TcpStream, folder: &Path) -> std::io::Result<()> {
    let mut first = String::new();
    let mut request = BufReader::new(stream.try_clone()?);
    request.read_line(&mut first)?;
    let (mut line, mut takes_brotli) = (String::from("-"), false);
    while !line.trim().is_empty() {
        line.clear();
        request.read_line(&mut line)?;
        let line = line.to_ascii_lowercase();
        takes_brotli |= line.strip_prefix("accept-encoding:").is_some_and(|all| all.split(',').any(|one| one.trim() == "br"));
    }
    let asked = first.split(' ').nth(1).unwrap_or("/").split(['?', '#']).next().unwrap_or("/");
    let name = if asked == "/" { "index.html" } else { asked.trim_start_matches('/') };
    let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    let read = |ending: &str| inside.then(|| fs::read(folder.join(format!("{name}{ending}"))).ok()).flatten();
    let packed = takes_brotli.then(|| read(".br")).flatten();
    let encoding = if packed.is_some() { "Content-Encoding: br\r\n" } else { "" };
    let (status, kind, body) = match packed.or_else(|| read("")) {
        Some(body) => ("200 OK", mime(name), body),
        None => ("404 Not Found", "text/plain", b"not found".to_vec()),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{encoding}Vary: Accept-Encoding\r\nContent-Length: {}\r\nCache-Control: no-cache\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)
}

fn mime(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("wasm") => "application/wasm",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}
