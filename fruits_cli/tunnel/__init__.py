"""SSH, SOCKS5 and the browser; the only package that imports paramiko."""
