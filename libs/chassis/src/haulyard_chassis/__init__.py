"""What every Haulyard service needs once: settings, logging, health, connections and errors.

Services build on it in their ``app.py``; it knows nothing of any of them.
"""
