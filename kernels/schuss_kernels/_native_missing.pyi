REASON: str
