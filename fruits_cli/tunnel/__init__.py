"""SSH, SOCKS5 and the browser: the only room that knows paramiko."""
