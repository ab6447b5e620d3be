"""Floor of FoodWise: tables, rules, texts, and who may ask; no page."""
