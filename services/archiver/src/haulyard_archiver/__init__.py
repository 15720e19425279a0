"""The archiver: fills the parts of archives. Stateless; run as many as there is work for."""
